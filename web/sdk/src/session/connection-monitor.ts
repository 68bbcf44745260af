/** Measures the connection of this peer at intervals: the quality of each peer's ways, and what is reported to the agent. */

import { delay } from "../abort.js";
import { MafaldaError } from "../errors.js";
import { qualityOf, SteadyQuality, wayQuality, type Quality } from "../media/quality.js";
import { StatisticsSampler, type Way } from "../media/statistics.js";
import type { LocalPublication } from "../media/publication.js";
import type { RemoteSubscription } from "../media/subscription.js";
import type { ScoresAnswer, WayStatistics } from "../protocol/messages.js";
import type { Session } from "./session.js";

/** How good both ways of a peer are, as far as that is known. */
export interface PeerQuality {
  /** From the peer to its worker. */
  readonly up?: Quality;
  /** To a peer from its worker; of another peer: of what this page receives of it. */
  readonly down?: Quality;
}

export interface QualityChange {
  readonly peer: string;
  readonly way: Way;
  readonly quality: Quality;
}

const MEASURE_MS = 2_000;
const FIRST_REPORT_MS = 2_000;
const MAX_STREAMS = 16;
const DIRECTIONS = { up: "send", down: "receive" } as const;
const NO_SCORES: ScoresAnswer = { sent: {}, received: {} };

/** See the module. Nothing is measured before `watchQuality` or `report` is called. */
export class ConnectionMonitor {
  readonly #qualities = new Map<string, Record<Way, SteadyQuality>>();
  #isWatching = false;
  #isReporting = false;

  constructor(
    private readonly session: Session,
    private readonly own: string,
    private readonly publications: ReadonlyMap<string, LocalPublication>,
    private readonly subscriptions: ReadonlyMap<string, RemoteSubscription>,
    private readonly changed: (change: QualityChange) => void,
  ) {}

  qualityOf(peer: string): PeerQuality {
    const known = this.#qualities.get(peer);
    const { shown: up } = known?.up ?? {};
    const { shown: down } = known?.down ?? {};
    return { ...(up && { up }), ...(down && { down }) };
  }

  forget(peer: string): void {
    this.#qualities.delete(peer);
  }

  /** Measures the quality of all ways until the room is left. */
  watchQuality(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    const samplers = { up: new StatisticsSampler(), down: new StatisticsSampler() };
    void this.#every(async () => {
      this.#judge(await this.#measure(samplers), await this.#scores());
      return MEASURE_MS;
    }, MEASURE_MS);
  }

  /** Reports statistics to the agent until the room is left, as often as it wants them. */
  report(): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    const samplers = { up: new StatisticsSampler(), down: new StatisticsSampler() };
    let before = performance.now();
    void this.#every(async () => {
      const generation = this.session.placement?.generation;
      const found = await this.#measure(samplers);
      const now = performance.now();
      const intervalS = Math.round(now - before) / 1000;
      before = now;
      const ways = [found.up, found.down].filter((it) => it !== undefined).map((it) => ({ ...it, streams: it.streams?.slice(0, MAX_STREAMS) ?? [] }));
      if (generation === undefined || ways.length === 0 || intervalS <= 0 || intervalS > 600) return FIRST_REPORT_MS;
      const taken = await this.session.requests.query("report-statistics", { generation, intervalS, ways }, "mafalda.answer.statistics-taken.v1");
      return taken.intervalS * 1000;
    }, FIRST_REPORT_MS);
  }

  /** Does `work`, and again when the time that it returned has passed. Its failures are those of an outage, or of a server that is older. */
  async #every(work: () => Promise<number>, firstMs: number): Promise<void> {
    const { ended } = this.session;
    for (let waitMs = firstMs; !ended.aborted; ) {
      await delay(waitMs, ended).catch(() => undefined);
      if (ended.aborted) return;
      try {
        waitMs = await work();
      } catch (error) {
        if (error instanceof MafaldaError && error.code === "permission-denied") return console.warn("mafalda: not measured", error);
        waitMs = firstMs;
      }
    }
  }

  async #measure(samplers: Record<Way, StatisticsSampler>): Promise<Partial<Record<Way, WayStatistics>>> {
    const endpoint = this.session.presentEndpoint;
    const found: Partial<Record<Way, WayStatistics>> = {};
    if (!endpoint) return found;
    for (const way of ["up", "down"] as const) {
      const stats = await endpoint.stats(DIRECTIONS[way]);
      const statistics = stats && samplers[way].take({ way, stats, producers: this.#producers(way) }, performance.now());
      if (statistics) found[way] = statistics;
      else if (!stats && endpoint.isOverdue(DIRECTIONS[way])) found[way] = { way, quality: "lost", bitrateBps: 0 };
    }
    return found;
  }

  /** The producers of a way by their `mid`. */
  #producers(way: Way): Map<string, string> {
    const found = new Map<string, string>();
    if (way === "up") for (const { mid, id } of this.publications.values()) if (mid !== undefined) found.set(mid, id);
    if (way === "down") for (const { mid, producer } of this.subscriptions.values()) if (mid !== undefined) found.set(mid, producer.id);
    return found;
  }

  async #scores(): Promise<ScoresAnswer> {
    if (!this.session.placement) return NO_SCORES;
    return await this.session.requests.query("scores", {}, "mafalda.answer.scores.v1").catch((error: unknown) => {
      if (error instanceof MafaldaError && error.code === "permission-denied") throw error;
      return NO_SCORES;
    });
  }

  #judge({ up, down }: Partial<Record<Way, WayStatistics>>, scores: ScoresAnswer): void {
    if (up) {
      const sent = [...this.publications.values()].filter((it) => it.isSent).map((it) => scores.sent[it.id] ?? 10);
      this.#take(this.own, "up", up.quality === "lost" ? "lost" : wayQuality(up, Math.min(10, ...sent)));
    }
    if (down) this.#take(this.own, "down", down.quality === "lost" ? "lost" : wayQuality(down));
    const received = new Map<string, RemoteSubscription[]>();
    for (const it of this.subscriptions.values()) {
      if (it.isReceived) received.set(it.producer.peer, [...(received.get(it.producer.peer) ?? []), it]);
    }
    for (const [peer, subscriptions] of received) {
      const score = Math.min(10, ...subscriptions.map((it) => scores.received[it.producer.id] ?? 10));
      this.#take(peer, "up", qualityOf({ score }));
      if (!down) continue;
      const losses = (down.streams ?? []).filter((it) => subscriptions.some(({ producer }) => producer.id === it.producer)).map((it) => it.lossRatio ?? 0);
      this.#take(peer, "down", down.quality === "lost" ? "lost" : qualityOf({ loss: Math.max(0, ...losses) }));
    }
  }

  #take(peer: string, way: Way, measured: Quality): void {
    let known = this.#qualities.get(peer);
    if (!known) this.#qualities.set(peer, (known = { up: new SteadyQuality(), down: new SteadyQuality() }));
    if (known[way].take(measured)) this.changed({ peer, way, quality: known[way].shown ?? measured });
  }
}
