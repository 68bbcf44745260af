/** What the application opened once and the SDK keeps open: at each new placement it is opened again. */

import { Closed, MafaldaError, Refused } from "../errors.js";
import type { Endpoint } from "./endpoint.js";
import type { Session } from "./session.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/** `opening`: for the first time, or again after its placement was lost. */
export type ResourceState = "opening" | "open" | "closed";

/** Base of publications and subscriptions. */
export abstract class Resource {
  #state: ResourceState = "opening";
  readonly #closed = new AbortController();
  readonly #firstOpen = Promise.withResolvers<void>();
  #reopen: () => void = () => undefined;

  constructor(protected readonly session: Session) {
    this.#firstOpen.promise.catch(() => undefined); // whoever awaits it gets the error; without anybody it is in `closed`
  }

  get state(): ResourceState {
    return this.#state;
  }

  /** Aborted when it is closed for good. */
  get closedSignal(): AbortSignal {
    return this.#closed.signal;
  }

  /** Keeps it open until it is closed. Resolves when it is open for the first time; rejects when it cannot be opened at all. */
  start(): Promise<void> {
    this.session.resources.add(this);
    void this.#keep();
    return this.#firstOpen.promise;
  }

  /** Closes it here, without a word to the fleet. */
  end(error?: MafaldaError): void {
    if (this.#state === "closed") return;
    this.#setState("closed");
    this.session.resources.delete(this);
    this.#firstOpen.reject(error ?? new Closed("it was closed"));
    this.#closed.abort(error ?? new Closed("it was closed"));
    this.dropLocal();
    this.onEnded(error);
  }

  /** Its server side is gone although the transport is not: open it again. */
  reopen(): void {
    this.#reopen();
  }

  /** Opens it at this endpoint. */
  protected abstract open(endpoint: Endpoint): Promise<void>;
  /** Closes what mediasoup-client has of it. */
  protected abstract dropLocal(): void;
  protected abstract onEnded(error: MafaldaError | undefined): void;
  protected onState(_state: ResourceState): void {}
  /** Whether a refusal may pass by itself. */
  protected mayRetry(error: unknown, openedOnce: boolean): boolean {
    return openedOnce && !(error instanceof Refused && error.code === "permission-denied");
  }

  #setState(state: ResourceState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.onState(state);
  }

  async #keep(): Promise<void> {
    let openedOnce = false;
    let pause = FIRST_PAUSE_MS;
    while (this.#state !== "closed") {
      try {
        const endpoint = await this.session.endpoint(this.#closed.signal);
        const lost = new Promise<void>((resolve) => {
          this.#reopen = resolve;
          for (const signal of [endpoint.lost, this.#closed.signal]) {
            if (signal.aborted) resolve();
            else signal.addEventListener("abort", () => resolve(), { once: true });
          }
        });
        try {
          await this.open(endpoint);
        } catch (error) {
          if (endpoint.lost.aborted || this.#closed.signal.aborted) continue;
          if (!this.mayRetry(error, openedOnce)) throw error;
          await new Promise((resolve) => setTimeout(resolve, pause));
          pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
          continue;
        }
        if (this.closedSignal.aborted) return this.dropLocal();
        openedOnce = true;
        pause = FIRST_PAUSE_MS;
        this.#setState("open");
        this.#firstOpen.resolve();
        await lost;
        if (this.closedSignal.aborted) return;
        this.#setState("opening");
        this.dropLocal();
      } catch (error) {
        if (this.closedSignal.aborted) return;
        this.end(error instanceof MafaldaError ? error : new MafaldaError("webrtc-failed", error instanceof Error ? error.message : String(error)));
      }
    }
  }
}
