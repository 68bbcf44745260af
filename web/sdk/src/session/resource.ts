/** What the application opened once and the SDK keeps open: at each new placement it is opened again. */

import { abortable, anyAborted, delay } from "../abort.js";
import { Closed, MafaldaError, Refused } from "../errors.js";
import type { Endpoint } from "./endpoint.js";
import { Interrupted } from "./requests.js";
import type { Session } from "./session.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/** `opening`: for the first time, or again after its placement was lost. */
export type ResourceState = "opening" | "open" | "closed";

/** Base of publications and subscriptions. */
export abstract class Resource {
  #state: ResourceState = "opening";
  #error: MafaldaError | undefined;
  readonly #closed = new AbortController();
  readonly #firstOpen = Promise.withResolvers<void>();
  #reopen: () => void = () => undefined;
  #changed = Promise.withResolvers<void>();
  /** Where it was last seen to have media. */
  #flowsAt: Endpoint | undefined;

  constructor(protected readonly session: Session) {
    this.#firstOpen.promise.catch(() => undefined); // whoever awaits it gets the error; without anybody it is in `closed`
  }

  /** Its id on the worker, while it is open. */
  abstract get serverId(): string | undefined;

  /** Why it is closed; undefined if the application closed it or its producer ended. */
  get error(): MafaldaError | undefined {
    return this.#error;
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
    this.session.resources.delete(this);
    this.#error = error;
    this.#firstOpen.reject(error ?? new Closed("it was closed"));
    this.#closed.abort(error ?? new Closed("it was closed"));
    this.dropFormer();
    this.dropLocal();
    this.onEnded();
    this.#setState("closed");
  }

  /** @internal Waits until media flows at this endpoint, it is closed, or it cannot be open for the moment. */
  async flowing(endpoint: Endpoint): Promise<void> {
    while (this.#flowsAt !== endpoint && this.#state !== "closed" && this.isExpected()) await abortable(this.#changed.promise, endpoint.lost);
  }

  /** Its server side is gone although the transport is not: open it again. */
  reopen(): void {
    this.#reopen();
  }

  /** Opens it at this endpoint. `signal` aborts when what it opens is of no more use, also while it is being opened. */
  protected abstract open(endpoint: Endpoint, signal: AbortSignal): Promise<void>;
  /** Closes what mediasoup-client has of it. */
  protected abstract dropLocal(): void;
  /**
   * Keeps what mediasoup-client has of it, until what is opened next carries media: then `dropFormer` is due. `isHandedOver`: its server
   * side still works.
   */
  protected abstract keepFormer(isHandedOver: boolean): void;
  /** Closes what `keepFormer` kept. */
  protected abstract dropFormer(): void;
  /** Waits until media flows at the endpoint where it is open, or nothing is to flow. */
  protected abstract flows(endpoint: Endpoint, signal: AbortSignal): Promise<void>;
  /** Lets go of what belongs to it. */
  protected onEnded(): void {}
  protected abstract onState(state: ResourceState): void;
  /** After an interruption of the connection, in which events may have been missed: throws `not-found` if the server side is gone. */
  abstract check(): Promise<void>;
  /** Whether it can be open now: nobody waits for it otherwise. */
  protected isExpected(): boolean {
    return true;
  }
  /** Whether a refusal may pass by itself. */
  protected mayRetry(error: unknown, openedOnce: boolean): boolean {
    if (error instanceof Interrupted) return true;
    return openedOnce && !(error instanceof Refused && error.code === "permission-denied");
  }

  #setState(state: ResourceState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.notify();
    this.onState(state);
  }

  /** Something has changed that `flowing` waits for. */
  protected notify(): void {
    const changed = this.#changed;
    this.#changed = Promise.withResolvers();
    changed.resolve();
  }

  /** Notes when media flows, and lets go of what was kept until then. */
  async #watch(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    try {
      await this.flows(endpoint, signal);
    } catch (error) {
      if (!signal.aborted) console.warn("mafalda: cannot tell whether media flows", error);
    }
    if (signal.aborted) return;
    this.dropFormer();
    this.#flowsAt = endpoint;
    this.notify();
  }

  async #keep(): Promise<void> {
    let openedOnce = false;
    let pause = FIRST_PAUSE_MS;
    while (!this.closedSignal.aborted) {
      try {
        const endpoint = await this.session.endpoint(this.closedSignal);
        const gone = new AbortController();
        const signal = AbortSignal.any([gone.signal, endpoint.lost, this.closedSignal]);
        this.#reopen = () => gone.abort(new Closed("its server side is gone"));
        try {
          await abortable(this.open(endpoint, signal), signal);
        } catch (error) {
          gone.abort(error);
          this.dropLocal();
          if (endpoint.lost.aborted && !endpoint.isHandedOver && !this.closedSignal.aborted) {
            this.dropFormer(); // the endpoint before, where that is, is closed as well
            this.#setState("opening");
          }
          if (endpoint.lost.aborted || this.closedSignal.aborted) continue;
          if (error instanceof Error && !(error instanceof Closed) && !this.mayRetry(error, openedOnce)) throw error;
          console.info("mafalda: not open yet", this.constructor.name, error);
          await delay(pause, this.closedSignal);
          pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
          continue;
        }
        openedOnce = true;
        pause = FIRST_PAUSE_MS;
        this.#firstOpen.resolve();
        this.#setState("open");
        void this.#watch(endpoint, signal);
        await anyAborted(signal);
        if (this.closedSignal.aborted) return;
        // What works until the next one does stays, and nobody needs to be told.
        if (endpoint.lost.aborted && !endpoint.isHandedOver) {
          this.dropFormer();
          this.dropLocal();
        } else this.keepFormer(endpoint.isHandedOver);
        if (!endpoint.isHandedOver) this.#setState("opening");
      } catch (error) {
        if (this.closedSignal.aborted) return;
        this.end(error instanceof MafaldaError ? error : new MafaldaError("webrtc-failed", error instanceof Error ? error.message : String(error)));
      }
    }
  }
}
