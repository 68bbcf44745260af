"""Compare the state by the log with the objects that the workers really have.

Each agent is requested for an inventory of its objects. An object that is being opened or closed differs for a moment,
so a difference counts only if it is still there when the comparison is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract.messages.queries import PeerInventory, QueryServer, RelayInventory, ServerInventory
from mafalda.contract.subjects import agent_request
from mafalda.errors import DeadlineExceeded, MafaldaError
from mafalda.projection.state import PeerState, RoomState, ServerState, State
from mafalda.session.requests import as_expected


async def inventory(bus: Bus, server: str, *, timeout_s: float = 5.0) -> ServerInventory:
    """Request the inventory of a server's workers from its agent.

    Raises:
        DeadlineExceeded: Its agent does not answer.
        MalformedMessage: Its agent answers something else.
        MafaldaError: The error that its agent answers.
    """
    subject = agent_request(server, QueryServer.action)
    answer = await bus.request(
        subject, compose(QueryServer(), subject=subject, source="mafalda/verify"), timeout_s=timeout_s
    )
    return as_expected(answer.data, ServerInventory)


async def differences(bus: Bus, state: State) -> list[str]:
    """Every difference between the log and the workers, in words; empty if there is none.

    A server that does not answer with an inventory is a difference.
    """
    found: list[str] = []
    for server in sorted(state.servers.values(), key=lambda known: known.server):
        if server.status not in ("up", "draining"):
            continue
        try:
            real = await inventory(bus, server.server)
        except DeadlineExceeded:
            found.append(f"server {server.server}: is up by the log, but its agent does not answer")
            continue
        except MafaldaError as error:
            found.append(f"server {server.server}: its agent answers no inventory: {error}")
            continue
        found += _compare_server(state, server, real)
    return found


def _compare_server(state: State, server: ServerState, real: ServerInventory) -> Iterator[str]:
    where = f"server {server.server}"
    if real.incarnation != server.incarnation:
        yield f"{where}: incarnation {server.incarnation} by the log, {real.incarnation} in truth"
        return
    yield from _sets(f"{where}: workers", set(server.workers), set(real.workers))
    yield from _compare_peers(state, server.server, real.peers)
    yield from _compare_relays(state, server.server, real.relays)


def _compare_peers(state: State, server: str, real: list[PeerInventory]) -> Iterator[str]:
    logged = {
        (room.room, peer.peer): (room, peer)
        for room in state.rooms.values()
        for peer in room.peers.values()
        if peer.place.server == server and peer.status == "joined"
    }
    held = {(peer.room, peer.peer): peer for peer in real}
    yield from _sets(f"server {server}: peers", {"/".join(key) for key in logged}, {"/".join(key) for key in held})
    for key in sorted(logged.keys() & held.keys()):
        yield from _compare_peer(*logged[key], held[key])


def _compare_peer(room: RoomState, peer: PeerState, real: PeerInventory) -> Iterator[str]:
    where = f"peer {room.room}/{peer.peer}"
    if (peer.place.worker, peer.generation) != (real.worker, real.generation):
        logged = f"{peer.place.worker} generation {peer.generation}"
        yield f"{where}: on {logged} by the log, {real.worker} generation {real.generation} in truth"
    mine = [producer for producer in room.producers.values() if producer.peer == peer.peer]
    yield from _sets(f"{where}: transports", peer.transports, set(real.transports))
    for data, producers, consumers in (
        (False, real.producers, real.consumers),
        (True, real.data_producers, real.data_consumers),
    ):
        kind = "data " if data else ""
        yield from _sets(f"{where}: {kind}producers", {p.producer for p in mine if p.data is data}, set(producers))
        logged_consumers = {consumer.consumer for consumer in peer.consumers.values() if consumer.data is data}
        yield from _sets(f"{where}: {kind}consumers", logged_consumers, set(consumers))


def _compare_relays(state: State, server: str, real: list[RelayInventory]) -> Iterator[str]:
    logged = {
        f"{room.room}/{relay.producer} {relay.source.worker}->{relay.target.worker}"
        for room in state.rooms.values()
        for relay in room.relays.values()
        if relay.target.server == server and relay.status == "open"
    }
    held = {f"{relay.room}/{relay.producer} {relay.source.worker}->{relay.target.worker}" for relay in real}
    yield from _sets(f"server {server}: relays", logged, held)


def _sets(what: str, logged: set[str], real: set[str]) -> Iterator[str]:
    for missing in sorted(logged - real):
        yield f"{what}: {missing} is in the log, not in the worker"
    for extra in sorted(real - logged):
        yield f"{what}: {extra} is in the worker, not in the log"
