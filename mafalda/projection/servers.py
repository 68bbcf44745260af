"""How the events of servers and workers change the state."""

from __future__ import annotations

from mafalda.contract.messages import events
from mafalda.contract.messages.payload import Place
from mafalda.contract.subjects import Address
from mafalda.projection.lookup import current_server
from mafalda.projection.removal import remove_objects, remove_relays
from mafalda.projection.state import UNPLACED, RelayState, ServerState, State, WorkerState


def server_started(state: State, _: Address, event: events.ServerStarted) -> None:
    """Replace the server's former incarnation. A repeated event changes nothing: an incarnation does not come back."""
    known = state.servers.get(event.server)
    if known and known.incarnation == event.incarnation:
        return
    _end_workers(state, event.server)
    state.servers[event.server] = server = ServerState(
        event.server, event.incarnation, "up", event.announced_address, event.region
    )
    for info in event.workers:
        _add_worker(server, info)


def server_ended(state: State, _: Address, event: events.ServerStopped | events.ServerLost) -> None:
    """End the server's workers; their peers are unplaced."""
    if server := current_server(state, event.server, event.incarnation):
        _end_workers(state, event.server)
        server.status = "stopped" if isinstance(event, events.ServerStopped) else "lost"
        server.ended_seq = state.seq


def server_draining(state: State, _: Address, event: events.ServerDraining) -> None:
    """Set or clear the server's draining status."""
    if server := current_server(state, event.server, event.incarnation):
        server.status = "draining" if event.draining else "up"
        server.force_drain = event.draining and event.force


def worker_started(state: State, _: Address, event: events.WorkerStarted) -> None:
    """Add a worker to its server."""
    if server := current_server(state, event.server, event.incarnation):
        _add_worker(server, event.worker)


def worker_died(state: State, _: Address, event: events.WorkerDied) -> None:
    """Remove a worker; its peers are unplaced."""
    if current_server(state, event.server, event.incarnation):
        _end_worker(state, Place(server=event.server, worker=event.worker))


def _add_worker(server: ServerState, info: events.WorkerInfo) -> None:
    place = Place(server=server.server, worker=info.worker)
    server.workers.setdefault(info.worker, WorkerState(place, info.pid, info.slot))


def _end_workers(state: State, server: str) -> None:
    if known := state.servers.get(server):
        for worker in list(known.workers.values()):
            _end_worker(state, worker.place)


def _end_worker(state: State, place: Place) -> None:
    worker = state.worker(place)
    if worker is None:
        return
    for room_id, peer_id in sorted(worker.peers):
        room = state.rooms[room_id]
        peer = room.peers[peer_id]
        remove_objects(state, room, peer)
        peer.status = UNPLACED
    ended: dict[str, list[RelayState]] = {}
    for room_id, producer, target in worker.relays:
        room_or_none = state.rooms.get(room_id)  # an agent forgets rooms in which it has nothing
        relay = room_or_none.relays.get((producer, target)) if room_or_none else None
        if relay and place in (relay.source, relay.target):
            ended.setdefault(room_id, []).append(relay)
    for room_id, relays in ended.items():
        remove_relays(state, state.rooms[room_id], relays)
    del state.servers[place.server].workers[place.worker]
