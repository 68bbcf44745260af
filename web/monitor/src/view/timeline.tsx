/** The time line: now, or any moment that the log has. */

import { useRef } from "preact/hooks";
import { ChevronLeft, ChevronRight, Radio } from "lucide-preact";
import type { Totals } from "../state/api.js";
import { clock } from "../state/format.js";
import { goLive, goTo, goToEntry, isLive, momentProblem, seq, time } from "../state/moment.js";

/** While the slider is moved, a state is asked for at most so often. */
const PAUSE_MS = 120;
const STEP_MS = 1_000;

export function Timeline({ fleet }: { fleet: Totals | undefined }) {
  const timer = useRef<ReturnType<typeof setTimeout>>();
  const now = Date.now();
  // Whole milliseconds, and the first entry is not after them.
  const first = fleet?.log.firstTime ? Date.parse(fleet.log.firstTime) + 1 : now - STEP_MS;
  const last = first + Math.max(1, Math.ceil((now - first) / STEP_MS)) * STEP_MS;
  const shown = time.value ?? last;
  const move = (value: number) => {
    clearTimeout(timer.current);
    time.value = value;
    timer.current = setTimeout(() => void goTo(value), PAUSE_MS);
  };
  const live = () => {
    clearTimeout(timer.current);
    goLive();
  };
  const step = (by: number) => {
    clearTimeout(timer.current);
    void goToEntry(Math.max(1, (seq.value ?? fleet?.log.lastSeq ?? 1) + by));
  };
  const words = isLive.value ? "now" : new Date(shown).toLocaleString("en-GB");
  return (
    <footer class="timeline">
      <button class={`button live-button ${isLive.value ? "on" : ""}`} aria-pressed={isLive.value} onClick={live}>
        <Radio size={15} aria-hidden /> Live
      </button>
      <time class="first">{clock(first)}</time>
      <input
        type="range"
        aria-label="Moment that is shown"
        aria-valuetext={words}
        min={first}
        max={last}
        step={STEP_MS}
        value={shown}
        onInput={(event) => move(Number(event.currentTarget.value))}
      />
      <output>
        <b>{isLive.value ? "now" : clock(shown)}</b>
        <small>{momentProblem.value || (fleet ? `entry ${fleet.seq}` : "")}</small>
      </output>
      <button class="plain" aria-label="One log entry back" title="One log entry back" onClick={() => step(-1)}>
        <ChevronLeft size={18} aria-hidden />
      </button>
      <button class="plain" aria-label="One log entry forward" title="One log entry forward" disabled={isLive.value} onClick={() => step(1)}>
        <ChevronRight size={18} aria-hidden />
      </button>
    </footer>
  );
}
