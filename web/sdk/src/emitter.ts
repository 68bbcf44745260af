/** Typed events: `on` with an `AbortSignal` or the returned function to stop, `once` as a promise, `events` as an async iterator. */

export type Listener<T> = (event: T) => void;

/** Emits the events of the map `M`, whose keys are their names. */
export class Emitter<M extends object> {
  readonly #listeners = new Map<keyof M, Set<Listener<never>>>();
  readonly #ended = new AbortController();

  /** Calls `listener` at each event of this name, until the returned function is called or the signal aborts. */
  on<K extends keyof M>(name: K, listener: Listener<M[K]>, options: { signal?: AbortSignal } = {}): () => void {
    if (options.signal?.aborted) return () => undefined;
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener as Listener<never>);
    const stop = () => void listeners.delete(listener as Listener<never>);
    options.signal?.addEventListener("abort", stop, { once: true });
    return stop;
  }

  /** The next event of this name. Rejects with the signal's reason when it aborts. */
  once<K extends keyof M>(name: K, options: { signal?: AbortSignal } = {}): Promise<M[K]> {
    return new Promise((resolve, reject) => {
      options.signal?.throwIfAborted();
      const settled = new AbortController();
      this.on(name, (event) => (settled.abort(), resolve(event)), { signal: settled.signal });
      options.signal?.addEventListener("abort", () => (settled.abort(), reject(options.signal?.reason)), { signal: settled.signal });
    });
  }

  /** The events of this name from this call on, in order. Ends with the emitter or when the signal aborts. */
  events<K extends keyof M>(name: K, options: { signal?: AbortSignal } = {}): AsyncGenerator<M[K], void> {
    const queue: M[K][] = [];
    let wake: () => void = () => undefined;
    const signal = AbortSignal.any([...(options.signal ? [options.signal] : []), this.#ended.signal]);
    const stop = this.on(name, (event) => (queue.push(event), wake()));
    signal.addEventListener("abort", () => (stop(), wake()), { once: true });
    return (async function* () {
      try {
        while (true) {
          while (queue.length > 0) yield queue.shift() as M[K];
          if (signal.aborted) return;
          await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        stop();
      }
    })();
  }

  protected emit<K extends keyof M>(name: K, event: M[K]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as Listener<M[K]>)(event);
      } catch (error) {
        reportError(error); // as the platform does for its own events: one listener's fault is not another's
      }
    }
  }

  protected endEvents(): void {
    this.#ended.abort();
  }
}
