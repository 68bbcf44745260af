/** The log, newest entry first: filtered, streamed, and any entry whole. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Pause, Play } from "lucide-preact";
import { ask, withParams, type LogEntry, type LogRow } from "../state/api.js";
import { clock, count } from "../state/format.js";
import { goToEntry, isLive, seq } from "../state/moment.js";
import { route } from "../state/route.js";
import { useJson } from "../state/use-json.js";
import { Dialog, Reasons } from "./peer.js";
import { Search } from "./search.js";
import { Table, type Column } from "./table.js";

const COLUMNS: readonly Column[] = [
  { name: "Entry", width: "76px", align: "end" },
  { name: "Time", width: "108px" },
  { name: "Kind", width: "86px" },
  { name: "About", width: "minmax(130px, 0.8fr)" },
  { name: "What happened", width: "minmax(280px, 3fr)" },
];
const KINDS = ["intent", "command", "result", "event"] as const;
const PAGE_ROWS = 200;
const MAX_ROWS = 5_000;
/** Older rows are fetched when fewer than these follow. */
const NEAR_ROWS = 80;

interface Rows {
  readonly rows: readonly LogRow[]; // newest first
  readonly before: number | null;
  readonly dropped: number;
  readonly problem?: string;
}

export function LogView() {
  const { params } = route.value;
  const [text, setText] = useState(params["text"] ?? "");
  const [kinds, setKinds] = useState<ReadonlySet<string>>(new Set());
  const [room, setRoom] = useState(params["room"] ?? "");
  const [problems, setProblems] = useState(params["problems"] === "1");
  const [loads, setLoads] = useState(false);
  const [paused, setPaused] = useState(false);
  const [open, setOpen] = useState<number>();
  const filter = { text, room, kind: [...kinds].join(","), problems: problems ? 1 : "", loads: loads ? "" : 0, action: params["action"] ?? "" };
  const log = useLog(withParams("", filter).slice(1), paused);
  const toggle = (kind: string) => setKinds((before) => new Set(before.has(kind) ? [...before].filter((it) => it !== kind) : [...before, kind]));
  return (
    <section class="card grow log" aria-labelledby="log">
      <h1 class="hidden">Log</h1>
      <div class="card-head">
        <h2 id="log">Log</h2>
        <div class="chips" role="group" aria-label="Kinds of entries">
          {KINDS.map((kind) => (
            <button key={kind} aria-pressed={kinds.has(kind)} onClick={() => toggle(kind)}>
              {kind}s
            </button>
          ))}
          <button aria-pressed={problems} onClick={() => setProblems(!problems)}>
            problems
          </button>
          <button aria-pressed={loads} onClick={() => setLoads(!loads)}>
            load samples
          </button>
        </div>
        <label class="search">
          <span class="hidden">Room</span>
          <input type="search" placeholder="Room" size={12} value={room} onInput={(event) => setRoom(event.currentTarget.value.trim())} />
        </label>
        <Search label="Find text" value={text} onChange={setText} />
        {isLive.value && (
          <button class="button" onClick={() => setPaused(!paused)}>
            {paused ? <Play size={15} aria-hidden /> : <Pause size={15} aria-hidden />} {paused ? "Go on" : "Pause"}
          </button>
        )}
      </div>
      {log.state.problem && <p class="notice">{log.state.problem}</p>}
      {log.state.dropped > 0 && <p class="notice">{count(log.state.dropped)} entries came faster than they can be shown; the log has them.</p>}
      <Table
        label="Log entries, newest first"
        columns={COLUMNS}
        total={log.state.rows.length}
        rowHeight={32}
        onLook={(first) => first > log.state.rows.length - NEAR_ROWS && log.older()}
        empty="No entry of the log is like this."
        row={(index) => {
          const row = log.state.rows[index];
          if (!row) return undefined;
          const about = [row.room, row.peer].filter(Boolean).join(" / ") || row.server || "";
          return {
            key: String(row.seq),
            class: `entry ${row.kind} ${row.problem ? "problem" : ""}`,
            onOpen: () => setOpen(row.seq),
            cells: [
              <button class="link" onClick={() => setOpen(row.seq)} aria-label={`Entry ${row.seq}`}>
                {row.seq}
              </button>,
              <time>{clock(row.time, true)}</time>,
              <span class="kind">{row.kind}</span>,
              <span title={about}>{about}</span>,
              <span title={row.text}>{row.text}</span>,
            ],
          };
        }}
      />
      {open !== undefined && <EntryDialog seq={open} onClose={() => setOpen(undefined)} />}
    </section>
  );
}

/** The rows of a filter as of the moment that is shown; new ones are added while that is now. */
function useLog(filter: string, paused: boolean) {
  const [state, setState] = useState<Rows>({ rows: [], before: null, dropped: 0 });
  const turn = useRef(new AbortController());
  const loading = useRef<AbortController>();
  const query = Object.fromEntries(new URLSearchParams(filter));
  const moment = seq.value;
  const page = (upTo: number | null, signal: AbortSignal) =>
    ask<{ entries: LogRow[]; before: number | null }>("log", { ...query, seq: upTo, limit: PAGE_ROWS }, signal);
  useEffect(() => {
    const stopped = new AbortController();
    turn.current = stopped;
    const fail = (error: unknown) => {
      if (!stopped.signal.aborted) setState((before) => ({ ...before, problem: (error as Error).message }));
    };
    const load = async (extend: (found: Rows) => (before: Rows) => Rows) => {
      const found = await page(moment, stopped.signal);
      const rows = { rows: [...found.entries].reverse(), before: found.before, dropped: 0 };
      if (!stopped.signal.aborted) setState(extend(rows));
    };
    if (moment !== null || paused) {
      load((found) => () => found).catch(fail);
      return () => stopped.abort();
    }
    // What is appended while a page is fetched comes by the stream, also after the stream was interrupted.
    setState({ rows: [], before: null, dropped: 0 });
    const source = new EventSource(withParams("api/log/stream", query));
    source.onopen = () => void load((found) => (before) => joined(before, found)).catch(fail);
    source.onmessage = (event: MessageEvent<string>) => {
      const batch = JSON.parse(event.data) as { rows: LogRow[]; dropped: number };
      if (batch.rows.length > 0 || batch.dropped > 0) setState((before) => added(before, batch));
    };
    return () => {
      stopped.abort();
      source.close();
    };
  }, [filter, moment, paused]);
  const older = async () => {
    const of = turn.current;
    if (state.before === null || loading.current === of || state.rows.length >= MAX_ROWS) return;
    loading.current = of;
    try {
      const found = await page(state.before, of.signal);
      if (!of.signal.aborted) {
        setState((before) => ({ ...before, rows: [...before.rows, ...[...found.entries].reverse()], before: found.before }));
      }
    } catch (error) {
      if (!of.signal.aborted) setState((before) => ({ ...before, problem: (error as Error).message }));
    } finally {
      if (loading.current === of) loading.current = undefined;
    }
  };
  useEffect(() => {
    if (state.rows.length < NEAR_ROWS) void older(); // a filter may leave a page empty
  }, [state.before]);
  return { state, older: () => void older() };
}

/** A newest page, and what the stream brought before it. Rows that are no longer next to it are let go. */
function joined(state: Rows, page: Rows): Rows {
  const newest = page.rows[0]?.seq ?? 0;
  const end = page.rows.at(-1)?.seq ?? 0;
  const fresh = state.rows.filter((it) => it.seq > newest);
  const known = new Set(page.rows.map((it) => it.seq));
  const overlaps = page.before === null || state.rows.some((it) => known.has(it.seq));
  const older = overlaps ? state.rows.filter((it) => it.seq < end) : [];
  return {
    rows: [...fresh, ...page.rows, ...older].slice(0, MAX_ROWS),
    before: older.length > 0 ? state.before : page.before,
    dropped: state.dropped,
  };
}

function added(state: Rows, batch: { rows: readonly LogRow[]; dropped: number }): Rows {
  const newest = state.rows[0]?.seq ?? 0;
  const fresh = batch.rows.filter((it) => it.seq > newest).reverse();
  return { ...state, rows: [...fresh, ...state.rows].slice(0, MAX_ROWS), dropped: state.dropped + batch.dropped };
}

function EntryDialog({ seq: wanted, onClose }: { seq: number; onClose: () => void }) {
  const { value, problem } = useJson<LogEntry>(`log/${wanted}`);
  return (
    <Dialog title={`Entry ${wanted}`} onClose={onClose}>
      {problem && !value && <p>{problem}</p>}
      {value && (
        <>
          <p>
            {value.text}{" "}
            <button class="link" onClick={() => void goToEntry(wanted)}>
              Show the fleet as of this entry
            </button>
          </p>
          {value.reasons && <Reasons explanation={value.reasons} />}
          <pre tabIndex={0} aria-label="The message">
            {JSON.stringify(value.message ?? value.error, null, 2)}
          </pre>
        </>
      )}
    </Dialog>
  );
}
