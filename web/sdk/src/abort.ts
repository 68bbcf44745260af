/** Promises and `AbortSignal`, without a listener left behind. */

/** `promise`, or a rejection with the signal's reason as soon as it aborts. */
export async function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return await promise;
  promise.catch(() => undefined); // if the signal is first
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts before. */
export async function delay(ms: number, signal?: AbortSignal): Promise<undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    await abortable(new Promise<void>((resolve) => (timer = setTimeout(resolve, ms))), signal);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when one of the signals aborts. */
export async function anyAborted(...signals: AbortSignal[]): Promise<void> {
  const signal = AbortSignal.any(signals);
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}
