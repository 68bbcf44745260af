/** What `getStats` says of both ways over an interval, in the words of the contract. No I/O. */

import type { StreamStatistics, WayStatistics } from "../protocol/messages.js";
import { wayQuality } from "./quality.js";

/** One of the contract's two ways: `up`, to the worker, or `down`, from it. */
export type Way = WayStatistics["way"];

/** The statistics of one way, and the producers on it by the `mid` of their transceivers. */
export interface WayReport {
  readonly way: Way;
  readonly stats: RTCStatsReport;
  readonly producers: ReadonlyMap<string, string>;
}

type Entry = Readonly<Record<string, unknown>>;

interface Counters {
  bytes: number;
  packets: number;
  lost: number;
  again: number;
  freezes: number;
}

interface Stream {
  producer: string;
  kind: "audio" | "video";
  spent: Counters;
  jitterMs: number | undefined;
  framesPerSecond: number | undefined;
  width: number | undefined;
  height: number | undefined;
  encodings: number;
  limitation: StreamStatistics["limitation"];
}

const LIMITATIONS = new Set(["none", "cpu", "bandwidth", "other"]);

/** Compares each report with the one before. */
export class StatisticsSampler {
  #counters = new Map<string, Counters>();
  #at: number | undefined;

  /** The way's figures since the last call, `undefined` at the first one. `now` is in milliseconds. */
  take(report: WayReport, now: number): WayStatistics | undefined {
    const entries = [...(report.stats as unknown as Map<string, Entry>).values()];
    const before = this.#counters;
    const seconds = this.#at === undefined ? 0 : (now - this.#at) / 1000;
    this.#counters = new Map();
    this.#at = now;
    const streams = new Map<string, Stream>();
    for (const entry of entries) this.#add(entry, entries, report, before, streams);
    if (seconds <= 0) return undefined;
    const all = [...streams.values()];
    const pair = selectedPair(entries);
    const lossRatio = lossOf(all.map((it) => it.spent).reduce(sum, NOTHING), report.way);
    const jitters = all.map((it) => it.jitterMs).filter((it) => it !== undefined);
    const way = {
      way: report.way,
      bitrateBps: rate(all.reduce((sum, it) => sum + it.spent.bytes, 0), seconds),
      ...(lossRatio !== undefined && { lossRatio }),
      ...(jitters.length > 0 && { jitterMs: Math.round(Math.max(...jitters)) }),
      ...(pair && typeof pair["currentRoundTripTime"] === "number" && { roundTripMs: Math.round(pair["currentRoundTripTime"] * 1000) }),
      ...(report.way === "up" && pair && typeof pair["availableOutgoingBitrate"] === "number" && { availableOutgoingBps: Math.round(pair["availableOutgoingBitrate"]) }),
      streams: all
        .map((it) => statisticsOf(it, seconds, report.way))
        .sort((a, b) => (b.bitrateBps ?? 0) - (a.bitrateBps ?? 0)),
    };
    return { ...way, quality: wayQuality(way) };
  }

  #add(entry: Entry, entries: readonly Entry[], report: WayReport, before: ReadonlyMap<string, Counters>, streams: Map<string, Stream>): void {
    const isUp = report.way === "up";
    if (entry["type"] !== (isUp ? "outbound-rtp" : "inbound-rtp")) return;
    const producer = report.producers.get(String(entry["mid"]));
    if (producer === undefined) return;
    const far = isUp ? entries.find((it) => it["type"] === "remote-inbound-rtp" && it["localId"] === entry["id"]) : entry;
    const again = number(entry[isUp ? "retransmittedPacketsSent" : "retransmittedPacketsReceived"]);
    const counters: Counters = {
      bytes: number(entry[isUp ? "bytesSent" : "bytesReceived"]),
      packets: number(entry[isUp ? "packetsSent" : "packetsReceived"]),
      lost: number(far?.["packetsLost"]),
      again,
      freezes: number(entry["freezeCount"]),
    };
    const id = String(entry["id"]);
    this.#counters.set(id, counters);
    const spent = difference(counters, before.get(id));
    const fraction = isUp ? far?.["fractionLost"] : undefined;
    // The worker reports every 1 s for video, every 5 s for audio: its last fraction holds until the next one.
    if (typeof fraction === "number") spent.lost = Math.max(0, spent.packets - spent.again) * fraction;
    let stream = streams.get(producer);
    if (!stream) {
      const kind = entry["kind"] === "audio" ? "audio" : "video";
      stream = { producer, kind, spent, jitterMs: undefined, framesPerSecond: undefined, width: undefined, height: undefined, encodings: 0, limitation: undefined };
      streams.set(producer, stream);
    } else stream.spent = sum(stream.spent, spent);
    const jitter = far?.["jitter"];
    if (typeof jitter === "number") stream.jitterMs = Math.max(stream.jitterMs ?? 0, jitter * 1000);
    if (stream.kind === "audio" || entry["active"] === false || (isUp && spent.packets === 0)) return;
    stream.encodings++;
    const height = number(entry["frameHeight"]);
    if (height > 0 && height >= (stream.height ?? 0)) {
      stream.width = number(entry["frameWidth"]);
      stream.height = height;
      stream.framesPerSecond = typeof entry["framesPerSecond"] === "number" ? entry["framesPerSecond"] : undefined;
    }
    const limitation = entry["qualityLimitationReason"];
    if (typeof limitation === "string" && LIMITATIONS.has(limitation) && stream.limitation !== "bandwidth") {
      stream.limitation = limitation as StreamStatistics["limitation"];
    }
  }
}

const NOTHING: Counters = { bytes: 0, packets: 0, lost: 0, again: 0, freezes: 0 };

function statisticsOf(stream: Stream, seconds: number, way: Way): StreamStatistics {
  const { producer, kind, spent } = stream;
  const lossRatio = lossOf(spent, way);
  return {
    producer,
    mediaKind: kind,
    bitrateBps: rate(spent.bytes, seconds),
    ...(lossRatio !== undefined && { lossRatio }),
    ...(stream.jitterMs !== undefined && { jitterMs: Math.round(stream.jitterMs) }),
    ...(stream.framesPerSecond !== undefined && { framesPerSecond: Math.round(stream.framesPerSecond) }),
    ...(stream.width !== undefined && { width: stream.width }),
    ...(stream.height !== undefined && { height: stream.height }),
    ...(kind === "video" && way === "up" && { encodings: stream.encodings }),
    ...(stream.limitation !== undefined && way === "up" && { limitation: stream.limitation }),
    ...(kind === "video" && way === "down" && { freezes: spent.freezes }),
  };
}

/** What was lost or sent again, of what was sent once; unknown without packets. */
function lossOf({ packets, lost, again }: Counters, way: Way): number | undefined {
  const once = way === "up" ? packets - again : packets + lost - again;
  if (once <= 0) return undefined;
  return Math.min(1, Math.round((Math.max(lost, again) / once) * 1000) / 1000);
}

function selectedPair(entries: readonly Entry[]): Entry | undefined {
  const selected = entries.find((it) => it["type"] === "transport" && it["selectedCandidatePairId"])?.["selectedCandidatePairId"];
  return entries.find((it) => it["type"] === "candidate-pair" && (selected === undefined ? it["nominated"] === true && it["state"] === "succeeded" : it["id"] === selected));
}

function difference(now: Counters, before: Counters = NOTHING): Counters {
  const spent = (key: keyof Counters) => Math.max(0, now[key] - before[key]);
  return { bytes: spent("bytes"), packets: spent("packets"), lost: spent("lost"), again: spent("again"), freezes: spent("freezes") };
}

function sum(a: Counters, b: Counters): Counters {
  return { bytes: a.bytes + b.bytes, packets: a.packets + b.packets, lost: a.lost + b.lost, again: a.again + b.again, freezes: a.freezes + b.freezes };
}

function rate(bytes: number, seconds: number): number {
  return Math.round((bytes * 8) / seconds);
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
