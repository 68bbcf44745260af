"""What the monitor shows of a state, as JSON: totals, and pages of servers, rooms and peers.

A page is a window of a list, so that what is sent does not grow with the fleet. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.monitor.web.loads import LoadHistory
from mafalda.projection.state import UNPLACED, PeerState, RoomState, ServerState, State

Json = dict[str, Any]


def totals(state: State, loads: LoadHistory, moment: datetime | None) -> Json:
    """The fleet in numbers.

    Args:
        state: As of the moment.
        loads: Has the reports of that time, if they are known.
        moment: The time; ``None``: now.
    """
    fresh = [load for server in state.servers.values() if (load := fresh_load(server, loads, moment))]
    workers = [worker for load in fresh for worker in load.workers]
    running = [server for server in state.servers.values() if server.status in ("up", "draining")]
    return {
        "seq": state.seq,
        "servers": len(running),
        "draining": sum(server.status == "draining" for server in running),
        "workers": sum(len(server.workers) for server in state.servers.values()),
        "unresponsive": sum(worker.state == "unresponsive" for worker in workers),
        "rooms": len(state.rooms),
        "peers": sum(len(room.peers) for room in state.rooms.values()),
        "unplaced": sum(peer.status == UNPLACED for room in state.rooms.values() for peer in room.peers.values()),
        "producers": sum(len(room.producers) for room in state.rooms.values()),
        "relays": sum(len(room.relays) for room in state.rooms.values()),
        "consumers": sum(worker.consumers for worker in workers) if fresh else None,
        "receiveBps": sum(worker.receive_bps for worker in workers) if fresh else None,
        "sendBps": sum(worker.send_bps for worker in workers) if fresh else None,
        "cpuRatio": sum(worker.cpu_ratio for worker in workers) / len(workers) if workers else None,
    }


def server_rows(state: State, loads: LoadHistory, moment: datetime | None, query: str = "") -> list[Json]:
    """One row for each server that runs, was lost or has stopped, each followed by one for each of its workers.

    ``with_load`` fills in the loads of those that are shown.
    """
    rows: list[Json] = []
    order = {"lost": 0, "draining": 1, "up": 2, "stopped": 3}
    for key, server in sorted(state.servers.items(), key=lambda item: (order[item[1].status], item[0])):
        if query and query not in key and not any(query in worker for worker in server.workers):
            continue
        rows.append(_server_row(server, fresh_load(server, loads, moment)))
        rows += [{"row": "worker", "server": key, "worker": worker} for worker in sorted(server.workers)]
    return rows


def with_load(rows: Sequence[Json], state: State, loads: LoadHistory, moment: datetime | None) -> Iterator[Json]:
    """The rows of a page, those of workers with their loads and what is placed on them."""
    for row in rows:
        if row["row"] == "server":
            yield row
            continue
        server = state.servers[row["server"]]
        worker = server.workers[row["worker"]]
        load = fresh_load(server, loads, moment)
        found = next((it for it in load.workers if it.worker == row["worker"]), None) if load else None
        yield {
            **row,
            "pid": worker.pid,
            "peers": len(worker.peers),
            "rooms": len({room for room, _ in worker.peers}),
            "relays": len(worker.relays),
            "load": _worker_load(found),
            "cpuHistory": loads.cpu_of(row["server"], row["worker"], until=moment),
        }


def fresh_load(server: ServerState, loads: LoadHistory, moment: datetime | None) -> ServerLoad | None:
    """The report of a server of a moment, if it ran then and the report is of that incarnation."""
    load = loads.at(server.server, moment)
    running = server.status in ("up", "draining")
    return load if load and running and load.incarnation == server.incarnation else None


def room_rows(state: State, query: str = "") -> list[RoomState]:
    """Rooms whose id contains the query, those with most peers first."""
    found = (room for key, room in state.rooms.items() if query in key)
    return sorted(found, key=lambda room: (-len(room.peers), room.room))


def room_row(room: RoomState) -> Json:
    """A room in numbers."""
    return {
        "room": room.room,
        "peers": len(room.peers),
        "producers": len(room.producers),
        "relays": len(room.relays),
        "workers": len({peer.place for peer in room.peers.values() if peer.status != UNPLACED}),
        "unplaced": sum(peer.status == UNPLACED for peer in room.peers.values()),
    }


def peer_rows(room: RoomState, query: str = "", worker: str = "") -> list[PeerState]:
    """Peers whose id or name contains the query, on one worker if it is given; by id."""
    wanted = query.lower()
    return [
        peer
        for _, peer in sorted(room.peers.items())
        if (not wanted or wanted in peer.peer.lower() or wanted in name_of(peer).lower())
        and (not worker or peer.place.worker == worker)
    ]


def peer_row(peer: PeerState) -> Json:
    """A peer, its place, and the number of its objects."""
    return {
        "peer": peer.peer,
        "name": name_of(peer),
        "server": peer.place.server,
        "worker": peer.place.worker,
        "generation": peer.generation,
        "status": peer.status,
        "transports": len(peer.transports),
        "producers": len(peer.producers),
        "consumers": len(peer.consumers),
    }


def name_of(peer: PeerState) -> str:
    """The name that a peer gave itself, or its id."""
    name = peer.app_data.get("name")
    return name if isinstance(name, str) and name else peer.peer


def _server_row(server: ServerState, load: ServerLoad | None) -> Json:
    return {
        "row": "server",
        "server": server.server,
        "status": server.status,
        "region": server.region,
        "announcedAddress": server.announced_address,
        "workers": len(server.workers),
        "cpuRatio": load.cpu_ratio if load else None,
        "cpuCount": load.cpu_count if load else None,
        "memoryUsedRatio": load.memory_used_ratio if load else None,
        "eventLoopLagS": load.event_loop_lag_s if load else None,
        "appendError": load.append_error if load else None,
    }


def _worker_load(load: WorkerLoad | None) -> Json | None:
    return {key: value for key, value in load.to_json_dict().items() if key not in ("worker", "pid")} if load else None
