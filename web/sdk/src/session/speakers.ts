/** Who speaks in the room, as the fleet hears it on all its workers. */

import { delay } from "../abort.js";
import { MafaldaError } from "../errors.js";
import type { Speaker } from "../protocol/messages.js";
import type { Session } from "./session.js";

/** An agent sends changes for a minute, and is asked again before that is over; after an interruption at once. */
const RENEW_MS = 25_000;
const RETRY_MS = 2_000;

/** Asks the agent for it from `watch` until the room is left. */
export class Speakers {
  #present: readonly Speaker[] = [];
  #isWatching = false;
  #renew = new AbortController();

  constructor(
    private readonly session: Session,
    private readonly changed: (speakers: readonly Speaker[]) => void,
  ) {}

  /** Loudest first; empty before `watch`. */
  get present(): readonly Speaker[] {
    return this.#present;
  }

  /** The agent has told who speaks now. */
  take(speakers: readonly Speaker[]): void {
    const isSame = speakers.length === this.#present.length && speakers.every(({ producer }, index) => producer === this.#present[index]?.producer);
    this.#present = speakers;
    if (!isSame) this.changed(speakers);
  }

  /** The peer is at another place, or messages may have been missed. */
  renew(): void {
    this.#renew.abort();
    this.#renew = new AbortController();
  }

  watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    void this.#keepAsking();
  }

  async #keepAsking(): Promise<void> {
    const { ended, requests } = this.session;
    while (!ended.aborted) {
      let waitMs = RETRY_MS;
      const renewed = this.#renew.signal;
      if (this.session.placement) {
        try {
          this.take((await requests.query("speakers", { inbox: requests.inbox }, "mafalda.answer.speakers.v1")).speakers);
          waitMs = RENEW_MS;
        } catch (error) {
          if (error instanceof MafaldaError && error.code === "permission-denied") return console.warn("mafalda: speakers are not known", error);
        }
      }
      await delay(waitMs, AbortSignal.any([ended, renewed])).catch(() => undefined);
    }
    this.take([]);
  }
}
