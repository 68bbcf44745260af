/** The moment that the page shows: now, or a sequence of the log. */

import { computed, signal } from "@preact/signals";
import { ask } from "./api.js";

/** `null`: now. */
export const seq = signal<number | null>(null);
/** The time of `seq`, in milliseconds since 1970, as it was asked for. */
export const time = signal<number | null>(null);
export const isLive = computed(() => seq.value === null);
export const momentProblem = signal("");

let last = 0;

/** Shows the fleet as it was at a time. Of many calls the last counts. */
export async function goTo(at: number): Promise<void> {
  const turn = ++last;
  time.value = at;
  try {
    const found = await ask<{ seq: number }>("moment", { at: new Date(at).toISOString() });
    if (turn !== last) return;
    seq.value = found.seq;
    momentProblem.value = "";
  } catch (error) {
    if (turn === last) momentProblem.value = (error as Error).message;
  }
}

/** Shows the fleet as of a log entry. */
export async function goToEntry(wanted: number): Promise<void> {
  const turn = ++last;
  const found = await ask<{ time: string }>("fleet", { seq: wanted });
  if (turn !== last) return;
  seq.value = wanted;
  time.value = Date.parse(found.time);
}

export function goLive(): void {
  last++;
  seq.value = null;
  time.value = null;
  momentProblem.value = "";
}
