"""The overview of a fleet as one JSON document: servers, workers, rooms, peers and relays, with the reported loads."""

from __future__ import annotations

from typing import Any

from mafalda.bus.protocol import Bus
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput, LogFull
from mafalda.monitor.replay import current_state
from mafalda.projection.state import RoomState, ServerState, State


async def overview(bus: Bus, *, room: str | None = None, tenant: str | None = None) -> dict[str, Any]:
    """The present state of the fleet.

    Args:
        bus: Connected to the fleet's NATS.
        room: List only this room; all servers are listed in any case.
        tenant: List only this application's rooms.
    """
    state = await current_state(bus)
    loads = await read_loads(bus)
    usage = await bus.log_usage()
    rooms = [
        known for key, known in sorted(state.rooms.items()) if room in (None, key) and tenant in (None, known.tenant)
    ]
    return {
        "seq": state.seq,
        "log": {
            "entries": usage.entries,
            "bytes": usage.bytes,
            "limitEntries": usage.limit_entries,
            "limitBytes": usage.limit_bytes,
            "full": usage.is_full or bool(servers_refused(state, loads)),
        },
        "servers": [_server(state, server, loads.get(key)) for key, server in sorted(state.servers.items())],
        "rooms": [_room(known) for known in rooms],
    }


async def read_loads(bus: Bus) -> dict[str, ServerLoad]:
    """The last load report of each server."""
    loads: dict[str, ServerLoad] = {}
    for delivery in await bus.latest_loads():
        try:
            _, message = read_message(delivery.subject, delivery.data)
        except BadInput:
            continue  # its server is listed without a load
        if isinstance(message.data, ServerLoad):
            loads[message.data.server] = message.data
    return loads


def servers_refused(state: State, loads: dict[str, ServerLoad]) -> list[str]:
    """The servers that run and whose agents' last append was refused because the log is full."""
    return [
        key
        for key, server in sorted(state.servers.items())
        if (load := _fresh(server, loads.get(key))) and load.append_error == LogFull.code
    ]


def _fresh(server: ServerState, load: ServerLoad | None) -> ServerLoad | None:
    """A server's load report, if the server runs and it is that of its present incarnation."""
    return load if load and load.incarnation == server.incarnation and server.status in ("up", "draining") else None


def _server(state: State, server: ServerState, load: ServerLoad | None) -> dict[str, Any]:
    fresh = _fresh(server, load)
    of_worker = {worker.worker: worker for worker in fresh.workers} if fresh else {}
    return {
        "server": server.server,
        "status": server.status,
        "incarnation": server.incarnation,
        "announcedAddress": server.announced_address,
        "region": server.region,
        "cpuRatio": fresh.cpu_ratio if fresh else None,
        "memoryUsedRatio": fresh.memory_used_ratio if fresh else None,
        "appendError": fresh.append_error if fresh else None,
        "workers": [
            {
                "worker": key,
                "pid": worker.pid,
                "peers": len(worker.peers),
                "load": _worker_load(of_worker.get(key)),
            }
            for key, worker in sorted(server.workers.items())
        ],
    }


def _worker_load(load: WorkerLoad | None) -> dict[str, Any] | None:
    return {key: value for key, value in load.to_json_dict().items() if key not in ("worker", "pid")} if load else None


def _application(room: RoomState) -> str | None:
    """Whose room it is: its tenant, or the application that its first peer says it is of."""
    named = next((peer.app_data.get("application") for peer in room.peers.values()), None)
    return room.tenant or (named if isinstance(named, str) else None)


def _room(room: RoomState) -> dict[str, Any]:
    return {
        "room": room.room,
        "tenant": room.tenant,
        "application": _application(room),
        "peers": [
            {
                "peer": peer.peer,
                "server": peer.place.server,
                "worker": peer.place.worker,
                "generation": peer.generation,
                "status": peer.status,
                "transports": len(peer.transports),
                "transportIds": sorted(peer.transports),
                "producers": sorted(p.producer for p in room.producers.values() if p.peer == peer.peer),
                "consumers": len(peer.consumers),
            }
            for _, peer in sorted(room.peers.items())
        ],
        "relays": [
            {
                "producer": relay.producer,
                "data": relay.data,
                "source": relay.source.to_json_dict(),
                "target": relay.target.to_json_dict(),
                "status": relay.status,
            }
            for _, relay in sorted(room.relays.items(), key=lambda item: (item[0][0], str(item[0][1])))
        ],
    }
