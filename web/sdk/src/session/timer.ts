/** A timer that goes on in the background: browsers let the timers of a hidden page wait for up to a minute, but not a worker's. */

/** Calls back every `ms` milliseconds; returns what stops it. Where workers are not allowed it is a plain timer. */
export function every(ms: number, work: () => void): () => void {
  let plain: ReturnType<typeof setInterval> | undefined;
  let worker: Worker | undefined;
  const beginPlain = () => (plain ??= setInterval(work, ms));
  try {
    const source = URL.createObjectURL(new Blob([`setInterval(() => postMessage(0), ${ms})`], { type: "text/javascript" }));
    worker = new Worker(source);
    worker.onmessage = work;
    worker.onerror = beginPlain; // such as a security policy without `worker-src blob:`
    URL.revokeObjectURL(source);
  } catch {
    beginPlain();
  }
  return () => {
    worker?.terminate();
    clearInterval(plain);
    worker = undefined;
  };
}
