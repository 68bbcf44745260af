/** Hooks that keep what the server says up to date: one document, or the visible window of a long list. */

import { useEffect, useState } from "preact/hooks";
import { ask, withParams, type Page, type Params } from "./api.js";
import { seq } from "./moment.js";

export const POLL_MS = 1_000;
const WINDOW_ROWS = 100;

export interface Answer<T> {
  readonly value?: T;
  readonly problem?: string;
}

/** A document as of the moment that the page shows; asked for again each second while that is now. */
export function useJson<T>(path: string | undefined, params: Params = {}): Answer<T> {
  const key = path === undefined ? undefined : withParams(path, { ...params, seq: seq.value });
  const live = seq.value === null;
  const [answer, setAnswer] = useState<Answer<T> & { path?: string }>({});
  useEffect(() => {
    if (path === undefined) return setAnswer({});
    return poll(live, async (signal) => {
      try {
        const value = await ask<T>(path, { ...params, seq: seq.peek() }, signal);
        setAnswer({ value, path });
      } catch (error) {
        if (signal.aborted) return;
        setAnswer((before) => ({ ...(before.path === path && before.value !== undefined ? { value: before.value } : {}), path, problem: String((error as Error).message) }));
      }
    });
  }, [key]);
  return answer.path === path ? answer : {};
}

/** The rows of a long list, as far as they are looked at. */
export function useRows<Row>(path: string, params: Params = {}) {
  const [first, setFirst] = useState(0);
  const offset = Math.max(0, Math.floor(first / (WINDOW_ROWS / 2)) * (WINDOW_ROWS / 2) - WINDOW_ROWS / 4);
  const { value, problem } = useJson<Page<Row> & { offset?: number }>(path, { ...params, offset, limit: WINDOW_ROWS });
  const [shown, setShown] = useState<{ value: Page<Row>; offset: number } | undefined>();
  useEffect(() => {
    if (value) setShown({ value, offset });
  }, [value]);
  return {
    problem,
    total: value?.total ?? shown?.value.total ?? 0,
    loaded: shown !== undefined,
    row: (index: number): Row | undefined => shown?.value.rows[index - shown.offset],
    look: (index: number) => setFirst(index),
  };
}

/** Asks at once, and again each second while `again`; returns what stops it. */
function poll(again: boolean, work: (signal: AbortSignal) => Promise<void>): () => void {
  const stopped = new AbortController();
  void (async () => {
    do {
      if (!document.hidden) await work(stopped.signal);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    } while (again && !stopped.signal.aborted);
  })();
  return () => stopped.abort();
}
