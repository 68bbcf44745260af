/**
 * The entries of the log for one peer, each once: as they are published, and after an interruption of the connection those that an
 * agent sends of the time in between (`query.entries`).
 */

import { delay } from "../abort.js";
import { MafaldaError, Unavailable } from "../errors.js";
import type { Stored } from "../nats/bus.js";
import type { AnyMessage } from "../protocol/envelope.js";
import type { LogEntriesAnswer } from "../protocol/messages.js";

/** Entries before the last one received that are asked for again: NATS keeps the order on one connection only. */
const OVERLAP = 1_000;
/** Of at most 128 KiB each. When more was missed, the room as it is costs less. */
const MAX_PAGES = 16;
/** After an outage of NATS the agents reconnect too, and the log may need a while. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 1_000;

/** See the module. Everything that is received goes through `receive`; `take` gets each entry. */
export class PeerLog {
  /** Nothing up to this sequence is taken (any more); undefined until an entry was received. */
  #floor: number | undefined;
  /** Of each subject, the last entry that was taken. */
  readonly #last = new Map<string, number>();
  /** The highest sequence that is known. */
  #position = 0;
  /** What was received since an interruption, until what comes before it is here. */
  #held: Stored[] | undefined;
  #interruptions = 0;

  constructor(
    private readonly ask: (after: number) => Promise<LogEntriesAnswer>,
    private readonly take: (stored: Stored) => void,
  ) {}

  receive(stored: Stored): void {
    if (this.#held) this.#held.push(stored);
    else this.#takeOnce(stored);
  }

  /** Everything of interest up to this sequence is known from elsewhere. */
  reached(seq: number): void {
    this.#position = Math.max(this.#position, seq);
  }

  /** The connection broke. What is received from now on waits for `catchUp` or `release`. */
  interrupted(): void {
    this.#interruptions++;
    this.#held ??= [];
  }

  /**
   * Takes what was missed, then what was received meanwhile. Returns false when the connection broke again before that. Throws when the
   * entries cannot be had: the log has discarded them (`log-truncated`), they are too many, or no agent sends them.
   */
  async catchUp(signal: AbortSignal): Promise<boolean> {
    const interruption = this.#interruptions;
    try {
      const { entries, upTo } = await this.#missed(signal);
      if (interruption !== this.#interruptions) return false;
      for (const stored of entries) this.#takeOnce(stored);
      this.#floor = upTo;
      this.reached(upTo);
    } catch (error) {
      if (interruption !== this.#interruptions) return false;
      throw error;
    }
    this.release();
    return true;
  }

  /** Takes what waits, although entries before it may be missing. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const stored of held) this.#takeOnce(stored);
  }

  async #missed(signal: AbortSignal): Promise<{ entries: Stored[]; upTo: number }> {
    if (this.#floor === undefined) throw new MafaldaError("not-found", "nothing was received before the interruption");
    const entries: Stored[] = [];
    let after = Math.max(this.#floor, this.#position - OVERLAP);
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await this.#askPatiently(after, signal);
      for (const { seq, subject, message } of answer.entries) entries.push({ seq, subject, message: message as unknown as AnyMessage });
      after = answer.seq;
      if (!answer.more) return { entries, upTo: after };
    }
    throw new MafaldaError("too-many-entries", `more than ${MAX_PAGES} pages of the log were missed`);
  }

  async #askPatiently(after: number, signal: AbortSignal): Promise<LogEntriesAnswer> {
    const giveUpAt = performance.now() + PATIENCE_MS;
    while (true) {
      try {
        return await this.ask(after);
      } catch (error) {
        const mayPass = error instanceof Unavailable || (error instanceof MafaldaError && error.code === "rate-limited");
        if (!mayPass || performance.now() > giveUpAt) throw error;
        await delay(PAUSE_MS, signal);
      }
    }
  }

  #takeOnce(stored: Stored): void {
    const { seq, subject } = stored;
    this.#floor ??= seq - 1;
    if (seq <= Math.max(this.#floor, this.#last.get(subject) ?? 0)) return;
    this.#last.set(subject, seq);
    this.reached(seq);
    try {
      this.take(stored);
    } catch (problem) {
      console.warn("mafalda: message ignored", subject, problem);
    }
  }
}
