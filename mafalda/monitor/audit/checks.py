"""The audit: from the log, the load reports and the agents' inventories to findings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import ServerInventory
from mafalda.errors import MafaldaError
from mafalda.monitor.audit.compare import compare_server
from mafalda.monitor.audit.finding import Finding, Subject
from mafalda.monitor.audit.history import AuditedLog
from mafalda.projection.state import UNPLACED, ConsumerState, PeerState, RelayState, RoomState, ServerState, State

#: A relay without consumers is closed by its agent after ``relay_unused_s``, 10 s; it has so much longer than the rest.
RELAY_UNUSED_S = 10.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an audit has beside the log.

    Attributes:
        inventories: The answer of each server's agent, or the error instead.
        loads: The last load report of each server.
    """

    inventories: Mapping[str, ServerInventory | MafaldaError] = field(default_factory=dict)
    loads: Mapping[str, ServerLoad] = field(default_factory=dict)


def pending(log: AuditedLog, loads: Mapping[str, ServerLoad] = MappingProxyType({})) -> list[Finding]:
    """What waits for something, and is a finding as soon as it has waited for too long.

    Args:
        log: The log.
        loads: The last load report of each server.
    """
    return [
        *_open_intents(log),
        *_behind(log, loads),
        *(found for room in log.state.rooms.values() for found in (*_unjoined(log, room), *_pending_relays(log, room))),
    ]


def overdue(found: Finding, now: datetime, deadline_s: float) -> bool:
    """Whether what is pending has been so for too long.

    Args:
        found: Pending, with its time.
        now: By NATS' clock.
        deadline_s: Seconds.
    """
    allowed_s = deadline_s + (RELAY_UNUSED_S if found.code == "relay-unused" else 0)
    return found.since is not None and now - found.since > timedelta(seconds=allowed_s)


def compare_servers(state: State, inventories: Mapping[str, ServerInventory | MafaldaError]) -> Iterator[Finding]:
    """Compare the log with what the agents answer. A difference may be gone a moment later."""
    for name, server in sorted(state.servers.items()):
        if server.status not in ("up", "draining"):
            continue
        real = inventories.get(name)
        if isinstance(real, ServerInventory):
            yield from compare_server(state, server, real)
        elif real is not None:
            yield Finding("server-unreachable", f"server {name}: {_describe(real)}", Subject(server=name))


def compare(log: AuditedLog, evidence: Evidence) -> Iterator[Finding]:
    """Compare the log with what the agents answer and report. What is found may be gone a moment later."""
    yield from compare_servers(log.state, evidence.inventories)
    for name, server in sorted(log.state.servers.items()):
        load = evidence.loads.get(name)
        if server.status in ("up", "draining") and load and load.incarnation == server.incarnation:
            yield from _loads(log, server, load)
    yield from _two_places(evidence)
    real = _RealPaths(evidence)
    for room in log.state.rooms.values():
        yield from _without_path(room, real)


def _describe(error: MafaldaError) -> str:
    if error.code == "deadline-exceeded":
        return "is up by the log, but its agent does not answer"
    return f"its agent answers no inventory: {error}"


# --- by the log alone ------------------------------------------------------------------------------


def _open_intents(log: AuditedLog) -> Iterator[Finding]:
    for intent in log.open_intents:
        what = f"{intent.action} of {intent.room}/{intent.peer} has no result"
        yield Finding("intent-unanswered", what, Subject(intent.room, intent.peer, object=intent.id), intent.seq)


def _behind(log: AuditedLog, loads: Mapping[str, ServerLoad]) -> Iterator[Finding]:
    """Agents that report, and have not acted on the last command to them: what it reserved is not released."""
    for name, server in sorted(log.state.servers.items()):
        load, commanded = loads.get(name), log.commanded_since(name)
        if server.status not in ("up", "draining") or load is None or load.incarnation != server.incarnation:
            continue
        if load.as_of_seq < commanded:
            what = (
                f"server {name}: its agent has acted on entries up to {load.as_of_seq} only, commanded at {commanded}"
            )
            yield Finding("agent-behind", what, Subject(server=name), commanded)


def _unjoined(log: AuditedLog, room: RoomState) -> Iterator[Finding]:
    for peer in room.peers.values():
        if peer.status == "joined":
            continue
        since_seq = log.peer_since(room.room, peer.peer)
        if peer.status == UNPLACED:
            what = f"peer {room.room}/{peer.peer} has lost its place {peer.place.worker} and has no other"
            yield Finding("peer-unplaced", what, Subject(room.room, peer.peer), since_seq)
        else:
            what = f"peer {room.room}/{peer.peer} was placed on {peer.place.worker} and has not joined there"
            at = Subject(room.room, peer.peer, peer.place.server, peer.place.worker)
            yield Finding("peer-placing", what, at, since_seq)


def _pending_relays(log: AuditedLog, room: RoomState) -> Iterator[Finding]:
    for relay in room.relays.values():
        where = f"the relay of {room.room}/{relay.producer} from {relay.source.worker} to {relay.target.worker}"
        at = Subject(room.room, None, relay.target.server, relay.target.worker, relay.producer)
        if relay.status == "opening":
            since_seq = log.relay_since(room.room, relay.producer, relay.target)
            yield Finding("relay-opening", f"{where} has not been opened", at, since_seq)
        elif not _is_used(room, relay):
            since_seq = log.unused_since(room.room, relay.producer, relay.target)
            yield Finding("relay-unused", f"{where} has no consumer", at, since_seq)


def _is_used(room: RoomState, relay: RelayState) -> bool:
    """Whether something at the target consumes the producer, or another relay begins there."""
    if any(it.source == relay.target for it in room.relays_of(relay.producer)):
        return True
    consumers = room.consumers_of.get(relay.producer, ())
    return any((peer := room.peers.get(who)) and peer.place == relay.target for who, _ in consumers)


# --- by what agents say ------------------------------------------------------------------------------


def _loads(log: AuditedLog, server: ServerState, load: ServerLoad) -> Iterator[Finding]:
    if load.append_error:
        what = f"server {server.server}: the last append of its agent failed: {load.append_error}"
        yield Finding("append-failed", what, Subject(server=server.server))
    for figures in load.workers:
        worker = server.workers.get(figures.worker)
        if worker is None:
            continue
        at = Subject(server=server.server, worker=figures.worker)
        if figures.state == "unresponsive":
            what = f"worker {figures.worker} has not answered for {figures.channel_latency_s:.0f} s"
            yield Finding("worker-unresponsive", f"{what}; {len(worker.peers)} peers are there", at)
        targets = sum(_begins_at(log, worker.place, *key) for key in worker.relays)
        if figures.relays_out > targets:
            what = (
                f"worker {figures.worker} sends {figures.relays_out} producers to other workers, {targets} by the log"
            )
            yield Finding("relay-without-target", what, at)


def _begins_at(log: AuditedLog, place: Place, room_id: str, producer: str, target: Place) -> bool:
    room = log.state.rooms.get(room_id)
    relay = room.relays.get((producer, target)) if room else None
    return relay is not None and relay.source == place


def _two_places(evidence: Evidence) -> Iterator[Finding]:
    holders: dict[tuple[str, str], list[str]] = {}
    for name, real in sorted(evidence.inventories.items()):
        for held in real.peers if isinstance(real, ServerInventory) else ():
            if held.generation:  # what has no owner is listed without one
                place = f"{held.worker} of {name} (generation {held.generation})"
                holders.setdefault((held.room, held.peer), []).append(place)
    for (room, peer), places in sorted(holders.items()):
        if len(places) > 1:
            what = f"peer {room}/{peer} is on {' and on '.join(places)}"
            yield Finding("peer-in-two-places", what, Subject(room, peer))


def _without_path(room: RoomState, real: _RealPaths) -> Iterator[Finding]:
    """Consumers whose producer is neither on their worker nor relayed there by workers that all have it."""
    for peer in room.peers.values():
        for consumer in peer.consumers.values():
            if missing := real.gap(room, peer, consumer):
                what = f"consumer {consumer.consumer} of {room.room}/{peer.peer} gets nothing of {consumer.producer}"
                at = Subject(room.room, peer.peer, peer.place.server, peer.place.worker, consumer.consumer)
                yield Finding("consumer-without-path", f"{what}: {missing}", at)


class _RealPaths:
    """Where producers and relays are, by inventories; what no inventory tells is taken to be there."""

    def __init__(self, evidence: Evidence) -> None:
        held = {name: it for name, it in evidence.inventories.items() if isinstance(it, ServerInventory)}
        self._told = held.keys()
        self._origins = {
            (peer.room, producer, peer.worker)
            for it in held.values()
            for peer in it.peers
            for producer in (*peer.producers, *peer.data_producers)
        }
        self._relays = {(relay.room, relay.producer, relay.target) for it in held.values() for relay in it.relays}

    def gap(self, room: RoomState, peer: PeerState, consumer: ConsumerState) -> str | None:
        """What is missing between a producer and its consumer; ``None``: nothing."""
        origin = room.producers.get(consumer.producer)
        if origin is None:
            return "the producer is not in the log"
        here, hops = peer.place, 0
        while here != origin.place:
            relay = room.relays.get((consumer.producer, here))
            if relay is None or relay.status != "open" or hops > len(room.relays):
                return f"no open relay to {here.worker} in the log"
            if here.server in self._told and (room.room, consumer.producer, here) not in self._relays:
                return f"{here.worker} does not have the relay"
            here, hops = relay.source, hops + 1
        if here.server in self._told and (room.room, consumer.producer, here.worker) not in self._origins:
            return f"{here.worker} does not have the producer"
        return None
