import { describe, expect, it } from "vitest";
import { qualityOf, SteadyQuality } from "../src/media/quality.js";
import { StatisticsSampler, type Way } from "../src/media/statistics.js";
import { Speakers } from "../src/session/speakers.js";
import type { Session } from "../src/session/session.js";

describe("qualityOf", () => {
  it.each([
    [{}, "excellent"],
    [{ loss: 0.009, roundTripMs: 149, score: 9 }, "excellent"],
    [{ loss: 0.01 }, "good"],
    [{ roundTripMs: 150 }, "good"],
    [{ score: 8 }, "good"],
    [{ loss: 0.05 }, "poor"],
    [{ roundTripMs: 400 }, "poor"],
    [{ score: 5 }, "poor"],
    [{ loss: 0.5 }, "lost"],
    [{ loss: 0, roundTripMs: 20, score: 0 }, "lost"],
    [{ loss: 0.02, roundTripMs: 500, score: 10 }, "poor"],
  ])("of %o is %s: the worst decides", (figures, quality) => expect(qualityOf(figures)).toBe(quality));
});

describe("SteadyQuality", () => {
  it("falls at once and rises after two better ones in a row", () => {
    const quality = new SteadyQuality();
    const shown = (...measured: ("excellent" | "good" | "poor" | "lost")[]) => measured.map((it) => (quality.take(it), quality.shown));
    expect(shown("good", "poor", "excellent", "poor")).toEqual(["good", "poor", "poor", "poor"]);
    expect(shown("excellent", "good", "excellent", "excellent")).toEqual(["poor", "good", "good", "excellent"]);
    expect(shown("lost")).toEqual(["lost"]);
  });

  it("says whether it has changed", () => {
    const quality = new SteadyQuality();
    expect([quality.take("good"), quality.take("good"), quality.take("poor"), quality.take("good"), quality.take("good")]).toEqual([true, false, true, false, true]);
  });
});

type Entry = Record<string, unknown> & { id: string };

function report(way: Way, ...entries: Entry[]) {
  return { way, stats: new Map(entries.map((it) => [it.id, it])) as unknown as RTCStatsReport, producers: new Map([["0", "cam"], ["1", "mic"]]) };
}

/** One encoding of a camera that is sent, and what the worker says of it. */
function encoding(id: string, sent: number, lost: number, more: Record<string, unknown> = {}): Entry[] {
  return [
    { id, type: "outbound-rtp", kind: "video", mid: "0", active: true, packetsSent: sent, bytesSent: sent * 1000, qualityLimitationReason: "none", ...more },
    { id: `far-${id}`, type: "remote-inbound-rtp", localId: id, packetsLost: lost, jitter: 0.012 },
  ];
}

const PAIR: Entry[] = [
  { id: "t", type: "transport", selectedCandidatePairId: "p2" },
  { id: "p1", type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 9 },
  { id: "p2", type: "candidate-pair", currentRoundTripTime: 0.085, availableOutgoingBitrate: 380_000 },
];

describe("StatisticsSampler", () => {
  it("has the losses, the rates and the highest encoding of what is sent since the last time", () => {
    const sampler = new StatisticsSampler();
    expect(sampler.take(report("up", ...encoding("low", 1000, 100), ...PAIR), 0)).toBeUndefined();
    const low = encoding("low", 1100, 118, { frameWidth: 320, frameHeight: 180, framesPerSecond: 15, qualityLimitationReason: "bandwidth" });
    const off = encoding("high", 0, 0, { active: false, frameHeight: 720, frameWidth: 1280 });
    const way = sampler.take(report("up", ...low, ...off, ...PAIR), 2_000);
    expect(way).toEqual({
      way: "up",
      quality: "poor",
      bitrateBps: 400_000,
      lossRatio: 0.18,
      jitterMs: 12,
      roundTripMs: 85,
      availableOutgoingBps: 380_000,
      streams: [
        { producer: "cam", mediaKind: "video", bitrateBps: 400_000, lossRatio: 0.18, jitterMs: 12, framesPerSecond: 15, width: 320, height: 180, encodings: 1, limitation: "bandwidth" },
      ],
    });
  });

  it("takes the last fraction that the worker has reported, however long ago", () => {
    const sampler = new StatisticsSampler();
    const voice = (sent: number, lost: number): Entry[] => [
      { id: "a", type: "outbound-rtp", kind: "audio", mid: "1", packetsSent: sent, bytesSent: sent * 100 },
      { id: "far-a", type: "remote-inbound-rtp", localId: "a", packetsLost: lost, fractionLost: 0.04, jitter: 0 },
    ];
    const losses = [[0, 0], [100, 10], [200, 10], [200, 10]].map(([sent, lost], index) => sampler.take(report("up", ...voice(sent!, lost!)), index * 2_000)?.lossRatio);
    expect(losses).toEqual([undefined, 0.04, 0.04, undefined]);
  });

  it("counts what was sent again as lost once, although the worker has it now", () => {
    const sampler = new StatisticsSampler();
    sampler.take(report("up", ...encoding("low", 0, 0)), 0);
    const way = sampler.take(report("up", ...encoding("low", 120, 0, { retransmittedPacketsSent: 20 })), 1_000);
    expect(way?.lossRatio).toBe(0.2);
  });

  it("has what is lost of what is received, and how often it froze", () => {
    const sampler = new StatisticsSampler();
    const received = (packets: number, lost: number, freezes: number): Entry[] => [
      { id: "v", type: "inbound-rtp", kind: "video", mid: "0", packetsReceived: packets, packetsLost: lost, bytesReceived: packets * 500, freezeCount: freezes, frameHeight: 360, frameWidth: 640, jitter: 0.03 },
      { id: "a", type: "inbound-rtp", kind: "audio", mid: "1", packetsReceived: 50, packetsLost: 0, bytesReceived: 100, jitter: 0.002 },
    ];
    sampler.take(report("down", ...received(100, 0, 1)), 0);
    const way = sampler.take(report("down", ...received(190, 10, 3)), 1_000);
    expect(way).toMatchObject({ quality: "poor", lossRatio: 0.1, jitterMs: 30, streams: [{ producer: "cam", lossRatio: 0.1, freezes: 2 }, { producer: "mic", bitrateBps: 0 }] });
    expect(way?.streams?.[1]).not.toHaveProperty("lossRatio");
  });

  it("does not know the loss of a way without packets, and begins anew on another transport", () => {
    const sampler = new StatisticsSampler();
    sampler.take(report("up", ...encoding("low", 500, 5)), 0);
    expect(sampler.take(report("up", ...encoding("low", 500, 5)), 1_000)).not.toHaveProperty("lossRatio");
    expect(sampler.take(report("up", ...encoding("low", 100, 1)), 2_000)).toMatchObject({ bitrateBps: 0, quality: "excellent" });
  });
});

describe("Speakers", () => {
  it("asks at first, tells changes alone, and asks again at another place", async () => {
    const ending = new AbortController();
    const asked: unknown[] = [];
    const answers = Promise.withResolvers<void>();
    const query = async (name: string, data: unknown) => {
      asked.push([name, data]);
      if (asked.length === 2) answers.resolve();
      return { room: "lobby", speakers: [{ peer: "ana", producer: "mic" }] };
    };
    const session = { ended: ending.signal, placement: {}, requests: { inbox: "_INBOX.x", query } } as unknown as Session;
    const told: string[][] = [];
    const speakers = new Speakers(session, (now) => told.push(now.map(({ peer }) => peer)));
    expect(speakers.present).toEqual([]);
    speakers.watch();
    speakers.watch();
    await new Promise((resolve) => setTimeout(resolve));
    speakers.renew();
    await answers.promise;
    speakers.take([{ peer: "bob", producer: "b" }, { peer: "ana", producer: "mic" }]);
    await new Promise((resolve) => setTimeout(resolve));
    expect(asked).toEqual([["speakers", { inbox: "_INBOX.x" }], ["speakers", { inbox: "_INBOX.x" }]]);
    ending.abort();
    await new Promise((resolve) => setTimeout(resolve));
    expect(told.at(-1)).toEqual([]);
    expect(told[0]).toEqual(["ana"]);
    expect(told.filter((it) => it.length === 2)).toEqual([["bob", "ana"]]);
  });
});
