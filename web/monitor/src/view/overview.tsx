/** The fleet in numbers, and every server and worker with its load. */

import { useState } from "preact/hooks";
import { Cpu, Server } from "lucide-preact";
import type { ServerRow, Totals, WorkerRow } from "../state/api.js";
import { bitrate, bytes, count, percent, seconds, workerName } from "../state/format.js";
import { useRows } from "../state/use-json.js";
import { Search } from "./search.js";
import { Spark } from "./spark.js";
import { Table, type Column } from "./table.js";

const COLUMNS: readonly Column[] = [
  { name: "Server, worker", width: "minmax(150px, 1.6fr)" },
  { name: "CPU", width: "minmax(150px, 1.4fr)" },
  { name: "Peers", width: "70px", align: "end" },
  { name: "Rooms", width: "70px", align: "end" },
  { name: "Consumers", width: "96px", align: "end" },
  { name: "Relays", width: "72px", align: "end" },
  { name: "Received", width: "104px", align: "end" },
  { name: "Sent", width: "104px", align: "end" },
  { name: "Channel", width: "84px", align: "end" },
  { name: "Memory", width: "84px", align: "end" },
];

export function Overview({ fleet }: { fleet: Totals | undefined }) {
  const [query, setQuery] = useState("");
  const rows = useRows<ServerRow | WorkerRow>("servers", { q: query });
  return (
    <div class="overview">
      <h1 class="hidden">Fleet</h1>
      <Numbers fleet={fleet} />
      <section class="card grow" aria-labelledby="servers">
        <div class="card-head">
          <h2 id="servers">Servers and workers</h2>
          <Search label="Find a server or worker" value={query} onChange={setQuery} />
        </div>
        <Table
          label="Servers and workers"
          columns={COLUMNS}
          total={rows.total}
          rowHeight={44}
          onLook={rows.look}
          empty={rows.loaded ? "No server is known at this moment." : "Loading …"}
          row={(index) => {
            const row = rows.row(index);
            if (!row) return undefined;
            return row.row === "server" ? serverCells(row) : workerCells(row);
          }}
        />
      </section>
    </div>
  );
}

function Numbers({ fleet }: { fleet: Totals | undefined }) {
  const numbers: readonly (readonly [name: string, value: string, note?: string | undefined, warns?: boolean])[] = fleet
    ? [
        ["Servers", count(fleet.servers), fleet.draining ? `${fleet.draining} draining` : "all up"],
        ["Workers", count(fleet.workers), fleet.unresponsive ? `${fleet.unresponsive} unresponsive` : `CPU ${percent(fleet.cpuRatio)}`, fleet.unresponsive > 0],
        ["Rooms", count(fleet.rooms)],
        ["Peers", count(fleet.peers), fleet.unplaced ? `${count(fleet.unplaced)} without a place` : "all placed", fleet.unplaced > 0],
        ["Producers", count(fleet.producers), fleet.consumers === null ? undefined : `${count(fleet.consumers)} consumers`],
        ["Relays", count(fleet.relays)],
        ["Received", bitrate(fleet.receiveBps), `sent ${bitrate(fleet.sendBps)}`],
        ["Log", count(fleet.log.lastSeq), `${fleet.log.entriesPerS.toFixed(1)} entries/s`, fleet.log.full],
      ]
    : [];
  return (
    <dl class="numbers" aria-label="The fleet in numbers">
      {numbers.map(([name, value, note, warns]) => (
        <div key={name} class={warns ? "warns" : ""}>
          <dt>{name}</dt>
          <dd>
            <b>{value}</b>
            {note && <small>{note}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function serverCells(row: ServerRow) {
  return {
    key: row.server,
    class: `server ${row.status}`,
    cells: [
      <span class="name">
        <Server size={16} aria-hidden />
        <b title={row.announcedAddress}>{row.server}</b>
        <Status status={row.status} />
      </span>,
      row.cpuRatio === null ? "–" : <Load ratio={row.cpuRatio} history={[]} />,
      "",
      row.region ?? "",
      "",
      "",
      "",
      "",
      "",
      row.memoryUsedRatio === null ? "–" : percent(row.memoryUsedRatio),
    ],
  };
}

function workerCells(row: WorkerRow) {
  const load = row.load;
  const relays = load ? (load.relaysIn ?? 0) + (load.relaysOut ?? 0) : row.relays;
  return {
    key: `${row.server}/${row.worker}`,
    class: `worker ${load?.state ?? ""}`,
    cells: [
      <span class="name">
        <Cpu size={15} aria-hidden />
        <span title={row.worker}>{workerName(row.worker, row.server)}</span>
        <small>pid {row.pid}</small>
        {load?.state === "unresponsive" && <Status status="unresponsive" />}
      </span>,
      load ? <Load ratio={load.cpuRatio} history={row.cpuHistory} /> : <span class="dim">not reported</span>,
      count(row.peers),
      count(row.rooms),
      load ? count(load.consumers ?? 0) : "–",
      count(relays),
      bitrate(load ? (load.receiveBps ?? 0) : null),
      bitrate(load ? (load.sendBps ?? 0) : null),
      seconds(load ? (load.channelLatencyS ?? 0) : null),
      bytes(load ? (load.memoryBytes ?? 0) : null),
    ],
  };
}

function Load({ ratio, history }: { ratio: number; history: readonly number[] }) {
  const level = ratio >= 0.85 ? "high" : ratio >= 0.6 ? "raised" : "";
  return (
    <span class="load">
      <span class={`bar ${level}`}>
        <i style={{ width: `${Math.min(100, ratio * 100)}%` }} />
      </span>
      <span class="figure">{percent(ratio)}</span>
      <Spark values={history} />
    </span>
  );
}

export function Status({ status }: { status: string }) {
  return <span class={`status ${status}`}>{status}</span>;
}
