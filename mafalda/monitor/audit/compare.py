"""Compare the state by the log with the inventory of a server's workers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mafalda.contract.messages.queries import PeerInventory, RelayInventory, ServerInventory
from mafalda.monitor.audit.finding import Finding, Subject
from mafalda.projection.state import PeerState, RoomState, ServerState, State


def compare_server(state: State, server: ServerState, real: ServerInventory) -> Iterator[Finding]:
    """Every difference between the log and what a server's workers have.

    An object that is being opened or closed differs for a moment, so only a difference that stays is one.

    Args:
        state: By the log.
        server: The server in it; it is up.
        real: What its agent answers.
    """
    where = f"server {server.server}"
    if real.incarnation != server.incarnation:
        what = f"{where}: incarnation {server.incarnation} by the log, {real.incarnation} in truth"
        yield Finding("server-incarnation", what, Subject(server=server.server))
        return
    missing, extra = _sets(set(server.workers), set(real.workers))
    for id in missing:
        yield _missing(f"{where}: workers", id, Subject(server=server.server, worker=id))
    for id in extra:
        yield _unknown(f"{where}: workers", id, Subject(server=server.server, worker=id))
    yield from _compare_peers(state, server.server, real.peers)
    yield from _compare_relays(state, server.server, real.relays)


def _compare_peers(state: State, server: str, real: list[PeerInventory]) -> Iterator[Finding]:
    logged = {
        (room.room, peer.peer): (room, peer)
        for room in state.rooms.values()
        for peer in room.peers.values()
        if peer.place.server == server and peer.status == "joined"
    }
    held = {(peer.room, peer.peer): peer for peer in real}
    missing, extra = _sets({"/".join(key) for key in logged}, {"/".join(key) for key in held})
    for name in missing:
        room, _, peer = name.partition("/")
        yield _missing(f"server {server}: peers", name, Subject(room=room, peer=peer, server=server))
    for name in extra:
        room, _, peer = name.partition("/")
        yield _unexpected_peer(state, server, held[room, peer])
    for key in sorted(logged.keys() & held.keys()):
        yield from _compare_peer(*logged[key], held[key])


def _unexpected_peer(state: State, server: str, real: PeerInventory) -> Finding:
    """A peer that an agent holds, and that has not joined there by the log."""
    room = state.rooms.get(real.room)
    known = room.peers.get(real.peer) if room else None
    at = Subject(real.room, real.peer, server, real.worker)
    name = f"{real.room}/{real.peer}"
    if known and known.generation > real.generation:
        what = f"server {server}: peers: {name} is there in generation {real.generation}, {known.generation} by the log"
        return Finding("generation-old", what, at)
    return _unknown(f"server {server}: peers", name, at)


def _compare_peer(room: RoomState, peer: PeerState, real: PeerInventory) -> Iterator[Finding]:
    where = f"peer {room.room}/{peer.peer}"
    at = Subject(room.room, peer.peer, peer.place.server, real.worker)
    if (peer.place.worker, peer.generation) != (real.worker, real.generation):
        logged = f"{peer.place.worker} generation {peer.generation}"
        what = f"{where}: on {logged} by the log, {real.worker} generation {real.generation} in truth"
        yield Finding("generation-old", what, at)
    mine = [producer for producer in room.producers.values() if producer.peer == peer.peer]
    pairs = [("transports", peer.transports, real.transports)]
    for data, producers, consumers in (
        (False, real.producers, real.consumers),
        (True, real.data_producers, real.data_consumers),
    ):
        kind = "data " if data else ""
        pairs.append((f"{kind}producers", {it.producer for it in mine if it.data is data}, producers))
        logged_consumers = {consumer.consumer for consumer in peer.consumers.values() if consumer.data is data}
        pairs.append((f"{kind}consumers", logged_consumers, consumers))
    for kind, logged_ids, real_ids in pairs:
        missing, extra = _sets(logged_ids, set(real_ids))
        for id in missing:
            yield _missing(f"{where}: {kind}", id, replace(at, object=id))
        for id in extra:
            yield _unknown(f"{where}: {kind}", id, replace(at, object=id))


def _compare_relays(state: State, server: str, real: list[RelayInventory]) -> Iterator[Finding]:
    logged = {
        f"{room.room}/{relay.producer} {relay.source.worker}->{relay.target.worker}"
        for room in state.rooms.values()
        for relay in room.relays.values()
        if relay.target.server == server and relay.status == "open"
    }
    held = {f"{relay.room}/{relay.producer} {relay.source.worker}->{relay.target.worker}" for relay in real}
    missing, extra = _sets(logged, held)
    for name in missing:
        yield _missing(f"server {server}: relays", name, Subject(server=server, object=name))
    for name in extra:
        yield _unknown(f"server {server}: relays", name, Subject(server=server, object=name))


def _sets(logged: set[str], real: set[str]) -> tuple[list[str], list[str]]:
    """What only the log has, and what only the worker has."""
    return sorted(logged - real), sorted(real - logged)


def _missing(what: str, id: str, subject: Subject) -> Finding:
    return Finding("object-missing", f"{what}: {id} is in the log, not in the worker", subject)


def _unknown(what: str, id: str, subject: Subject) -> Finding:
    return Finding("object-unknown", f"{what}: {id} is in the worker, not in the log", subject)
