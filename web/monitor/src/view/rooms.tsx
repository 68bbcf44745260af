/** All rooms, and one of them: who is where, which way its media takes, and why. */

import { useState } from "preact/hooks";
import type { PeerRow, Room, RoomRow } from "../state/api.js";
import { count, workerName } from "../state/format.js";
import { address, route } from "../state/route.js";
import { useJson, useRows } from "../state/use-json.js";
import { Status } from "./overview.js";
import { PeerDialog } from "./peer.js";
import { RelayTrees } from "./relay-trees.js";
import { Search } from "./search.js";
import { Table, type Column } from "./table.js";

const ROOM_COLUMNS: readonly Column[] = [
  { name: "Room", width: "minmax(90px, 1fr)" },
  { name: "Peers", width: "64px", align: "end" },
  { name: "Relays", width: "64px", align: "end" },
];
const PEER_COLUMNS: readonly Column[] = [
  { name: "Peer", width: "minmax(120px, 1.4fr)" },
  { name: "Worker", width: "minmax(130px, 1.2fr)" },
  { name: "Status", width: "84px" },
  { name: "Placed", width: "64px", align: "end" },
  { name: "Produces", width: "80px", align: "end" },
  { name: "Consumes", width: "86px", align: "end" },
];

export function Rooms() {
  const [query, setQuery] = useState("");
  const rows = useRows<RoomRow>("rooms", { q: query });
  const chosen = route.value.room ?? rows.row(0)?.room;
  return (
    <div class="rooms">
      <h1 class="hidden">Rooms</h1>
      <section class="card list" aria-labelledby="room-list">
        <div class="card-head">
          <h2 id="room-list">
            {count(rows.total)} {rows.total === 1 ? "room" : "rooms"}
          </h2>
          <Search label="Find a room" value={query} onChange={setQuery} />
        </div>
        <Table
          label="Rooms"
          columns={ROOM_COLUMNS}
          total={rows.total}
          rowHeight={40}
          onLook={rows.look}
          empty={rows.loaded ? "There is no room at this moment." : "Loading …"}
          row={(index) => {
            const row = rows.row(index);
            if (!row) return undefined;
            const open = () => (location.hash = address("rooms", row.room));
            return {
              key: row.room,
              current: row.room === chosen,
              onOpen: open,
              cells: [<a href={address("rooms", row.room)}>{row.room}</a>, count(row.peers), count(row.relays)],
            };
          }}
        />
      </section>
      {chosen ? <RoomDetail key={chosen} room={chosen} /> : <section class="card grow" aria-label="Room" />}
    </div>
  );
}

function RoomDetail({ room }: { room: string }) {
  const { value, problem } = useJson<Room>(`rooms/${encodeURIComponent(room)}`);
  const [worker, setWorker] = useState("");
  const [query, setQuery] = useState("");
  const peers = useRows<PeerRow>(`rooms/${encodeURIComponent(room)}/peers`, { q: query, worker });
  return (
    <section class="room-detail" aria-labelledby="room-name">
      <div class="card">
        <div class="card-head">
          <h2 id="room-name">{room}</h2>
          {value && (
            <p class="dim">
              {count(value.peers)} peers on {value.workers} {value.workers === 1 ? "worker" : "workers"}, {count(value.producers)} producers,{" "}
              {count(value.relays)} relays
            </p>
          )}
          <a class="button" href={`${address("log")}?room=${encodeURIComponent(room)}`}>
            Its log
          </a>
        </div>
        {problem && <p class="empty">{problem}</p>}
        {value && <RelayTrees room={value} />}
      </div>
      <div class="card grow">
        <div class="card-head">
          <h2>Peers</h2>
          <div class="chips" role="group" aria-label="Only on one worker">
            {value?.servedBy.slice(0, 8).map((it) => (
              <button key={`${it.server}/${it.worker}`} aria-pressed={worker === it.worker} title={it.worker} onClick={() => setWorker(worker === it.worker ? "" : it.worker)}>
                {it.server} · {workerName(it.worker, it.server)} <b>{count(it.peers)}</b>
              </button>
            ))}
          </div>
          <Search label="Find a peer" value={query} onChange={setQuery} />
        </div>
        <Table
          label="Peers"
          columns={PEER_COLUMNS}
          total={peers.total}
          rowHeight={38}
          onLook={peers.look}
          empty={peers.loaded ? "No such peer at this moment." : "Loading …"}
          row={(index) => {
            const row = peers.row(index);
            if (!row) return undefined;
            const open = () => (location.hash = address("rooms", room, row.peer));
            return {
              key: row.peer,
              onOpen: open,
              current: route.value.peer === row.peer,
              cells: [
                <a href={address("rooms", room, row.peer)} title={row.peer}>
                  {row.name}
                </a>,
                <span title={row.worker}>
                  <span class="dim">{row.server}</span> {workerName(row.worker, row.server)}
                </span>,
                <Status status={row.status} />,
                `${row.generation}×`,
                count(row.producers),
                count(row.consumers),
              ],
            };
          }}
        />
      </div>
      {route.value.peer && <PeerDialog room={room} peer={route.value.peer} />}
    </section>
  );
}
