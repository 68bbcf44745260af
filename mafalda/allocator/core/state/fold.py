"""Fold log entries into an allocator's view: the projected state, and what follows from it for pending work. Pure.

Results change no placement, but snapshots have what they opened. What a result says was opened is reserved until the
load reports show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mafalda.allocator.core.fleet.candidates import WorkerView
from mafalda.allocator.core.fleet.newcomers import kind_of
from mafalda.allocator.core.state.draining import Move
from mafalda.allocator.core.state.log_entry import LogEntry, rejection_error
from mafalda.allocator.core.state.open_intents import MAX_WAITING, OpenIntent, Peer, Standing
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import Address
from mafalda.errors import NoCapacity
from mafalda.projection.fold import apply
from mafalda.projection.state import UNPLACED

#: The cause of the next placement of the peers of a worker, by the event that ended the worker.
_CAUSES: dict[type[events.Event], commands.PlacementCause] = {
    events.WorkerDied: "worker-died",
    events.ServerLost: "server-lost",
    events.ServerStarted: "server-restarted",
    events.ServerStopped: "drain",
}
#: Of the results of these intents nothing is used but that they are answered.
_ONLY_ANSWERS = (intents.Join.action, intents.Produce.action, intents.ProduceData.action)
ServerEvent = (
    events.ServerStarted
    | events.ServerStopped
    | events.ServerLost
    | events.ServerDraining
    | events.WorkerStarted
    | events.WorkerDied
)


def changes_nothing(view: View, address: Address) -> bool:
    """Whether an entry changes nothing in the view whatever it says, so that it need not be read.

    Samples of load reports: an allocator receives the reports themselves. Some results, once no intent of the peer is
    open: a placement has answered a join.
    """
    if address.kind == "result":
        return address.action in _ONLY_ANSWERS and not view.open_intents.count((address.room or "", address.peer or ""))
    return address.kind == "event" and address.action == events.LoadSampled.action


def skip_entry(view: View, seq: int) -> None:
    """Advance the view past a log entry that changes nothing else in it."""
    view.seq = view.state.seq = max(seq, view.seq)


def fold_entry(view: View, entry: LogEntry, now: float) -> None:
    """Fold one log entry.

    Args:
        view: Changed in place.
        entry: Each is given once, in log order, but for one that was delivered late.
        now: Seconds, monotonic.
    """
    skip_entry(view, entry.seq)
    address = entry.address
    if address.room:
        view.changed_rooms.add(address.room)
    if entry.error:
        view.counters[f"unreadable-{address.kind}"] += 1
    if address.kind == "command" and address.room:
        room = view.rooms.ensure(address.room)
        room.command_seq = max(entry.seq, room.command_seq)
        view.fleet.release(entry.id)
    if address.kind == "intent":
        _intent_stored(view, entry, now)
    elif address.kind == "result":
        for result in entry.results or (entry,):
            _result_stored(view, result)
    elif entry.message:
        payload = entry.message.data
        _RULES.get(type(payload), _apply)(view, entry, payload, now)


def _apply(view: View, entry: LogEntry, payload: Payload, _: float) -> None:
    """Fold a message into the projected state only."""
    apply(view.state, entry.seq, entry.address, payload)


# --- intents and results -------------------------------------------------------------------------


def _intent_stored(view: View, entry: LogEntry, now: float) -> None:
    who = _peer_of(entry)
    standing = _standing(view, who)
    intent = OpenIntent(entry.seq, entry.address, entry.raw, entry.id, now, standing, now, reply_to=entry.reply_to)
    intent.items = set(entry.items)
    if standing == "joining" and view.open_intents.count(who) >= MAX_WAITING:
        intent.refused = NoCapacity("too much asked for at once", limit=MAX_WAITING)
    view.open_intents.add(intent)


def _standing(view: View, who: Peer) -> Standing:
    peer = view.peer(who)
    if peer is None:
        return "joining" if view.open_intents.has_join(who) else "absent"
    if peer.status != UNPLACED:
        return "placed"
    return "joining" if who in view.joining else "unplaced"


def _result_stored(view: View, entry: LogEntry) -> None:
    who = _peer_of(entry)
    view.open_intents.answered(who, entry.cause, entry.id)
    if entry.rejected and entry.address.action == "join":
        _join_rejected(view, who, entry)
    apply(view.state, entry.seq, entry.address, entry.result)
    costs = view.config.costs
    match entry.address.action:
        case "create-transport":
            cost = costs.transport
        case "consume":
            cost = costs.consumer
        case "consume-data":
            cost = costs.data
        case _:
            return
    if not entry.rejected:
        _reserve(view, entry.seq, who, entry.generation, cost)


def _join_rejected(view: View, who: Peer, entry: LogEntry) -> None:
    """What waited for the join gets the join's error."""
    if view.peer(who) or view.open_intents.has_join(who):
        return
    for intent in view.open_intents.of_peer(who):
        if intent.standing == "joining":
            intent.refused = rejection_error(entry)
            view.parked.wake_intent(intent)


def _peer_of(entry: LogEntry) -> Peer:
    return entry.address.room or "", entry.address.peer or ""


def _reserve(view: View, seq: int, who: Peer, generation: int, cost: float) -> None:
    peer = view.peer(who)
    worker = view.worker_of(who)
    if peer and worker and peer.generation == generation:
        worker.reservations.reserve(seq, who, view.config.micro(cost))
        view.fleet.touch(worker)


# --- peers ---------------------------------------------------------------------------------------


def _peer_placed(view: View, entry: LogEntry, command: commands.PlacePeer, now: float) -> None:
    who = (command.room, command.peer)
    before = view.worker_of(who)
    _apply(view, entry, command, now)
    _peer_moved(view, who, before)
    view.drains.ended(who)
    if before and before.server.draining and command.cause == "drain":
        view.drains.commanded(who, Move(before.place.server, command.generation, now))
    view.open_intents.answered(who, command.join)
    if view.liveness.begun:
        view.rooms.ensure(command.room).placed_s = now
    peer = view.peer(who)
    if peer is None or peer.generation != command.generation:
        return
    if command.join_seq is None:
        view.joining.pop(who, None)
    else:
        view.joining[who] = command.join_seq
    _place_ended(view, who, now)
    if entry.message:
        view.correlations[who] = entry.message.correlation
    if worker := view.worker_of(who):
        _release_waiting(view, who)
        view.unplaced.remove(who)
        kind = kind_of(one_transport=command.one_transport, audience=command.audience)
        expected = view.fleet.newcomers.expected(command.room, kind)
        worker.reservations.advance(entry.seq, who, expected, kind, is_leased=command.lease_s is not None)
        view.fleet.touch(worker)
    else:
        cause: commands.PlacementCause = "worker-died" if command.cause == "join" else command.cause
        view.unplaced.add(UnplacedPeer(*who, entry.seq, now, cause, entry.message))


def _peer_joined(view: View, entry: LogEntry, event: events.PeerJoined, now: float) -> None:
    _apply(view, entry, event, now)
    view.joining.pop((entry.address.room or "", event.peer), None)


def _peer_left(view: View, entry: LogEntry, event: events.PeerLeft, now: float) -> None:
    who = (entry.address.room or "", event.peer)
    before = view.worker_of(who)
    known = view.peer(who)
    _apply(view, entry, event, now)
    if known is None or view.peer(who):
        return
    _peer_moved(view, who, before)
    _place_ended(view, who, now)
    view.unplaced.remove(who)
    view.drains.ended(who)
    view.correlations.pop(who, None)
    view.joining.pop(who, None)
    view.rooms.ensure(who[0]).leave(event.peer, known.generation)
    if who[0] not in view.state.rooms:
        view.rooms.deactivate(who[0])
        view.fleet.newcomers.forget_room(who[0])


def _peer_arrived(view: View, entry: LogEntry, event: events.PeerMoved, now: float) -> None:
    _apply(view, entry, event, now)
    view.drains.ended((entry.address.room or "", event.peer))
    view.joining.pop((entry.address.room or "", event.peer), None)


def _peer_unschedulable(view: View, entry: LogEntry, event: events.PeerStranded, _: float) -> None:
    if unplaced := view.unplaced.get((entry.address.room or "", event.peer)):
        unplaced.unschedulable = True


def _peer_moved(view: View, who: Peer, before: WorkerView | None) -> None:
    after = view.worker_of(who)
    if before is after:
        return
    room = view.rooms.ensure(who[0])
    if before:
        room.detach(before.key)
        before.reservations.forget(who)
        view.fleet.touch(before)
    if after:
        room.attach(after.key)


def _place_ended(view: View, who: Peer, now: float) -> None:
    """A peer's place has ended. Its intents that no agent answers are rejected a little later.

    Those of a peer that has not joined anywhere yet wait for its next place.
    """
    for intent in view.open_intents.of_peer(who):
        if intent.standing == "placed" and intent.address.action != "join":
            intent.standing = "joining" if who in view.joining else "lost"
            intent.lost_s = intent.since_s = now


def _release_waiting(view: View, who: Peer) -> None:
    """A peer has a place: its agent does what waited for the join; a relay for a consume is decided here."""
    for intent in view.open_intents.of_peer(who):
        if intent.standing == "joining" and not intent.refused:
            intent.standing = "placed" if who in view.joining else "lost"
            view.parked.wake_intent(intent)


# --- servers -------------------------------------------------------------------------------------


def _server_changed(view: View, entry: LogEntry, event: ServerEvent, now: float) -> None:
    before = view.state.servers.get(event.server)
    relays = [(worker.place.worker, set(worker.relays)) for worker in before.workers.values()] if before else []
    _apply(view, entry, event, now)
    state = view.state.servers.get(event.server)
    if state is None:
        return
    for name, ended in relays:
        if name not in state.workers or state is not before:
            view.changed_rooms |= {room for room, _, _ in ended}
    for worker in view.fleet.sync(state, now, watched=view.liveness.begun):
        view.changed_rooms |= {room for room, _ in worker.state.peers}
        for who in sorted(worker.state.peers):
            view.rooms.ensure(who[0]).detach(worker.key)
            _place_ended(view, who, now)
            view.drains.ended(who)
            view.unplaced.add(UnplacedPeer(*who, entry.seq, now, _CAUSES[type(event)], entry.message))
    view.drains.set_draining(event.server, state.status == "draining", entry.message)


def _load_sampled(view: View, _: LogEntry, event: events.LoadSampled, now: float) -> None:
    view.fleet.report(event.load, now, live=False)


# --- producers and relays ------------------------------------------------------------------------


def _producer_opened(view: View, entry: LogEntry, event: events.ProducerOpened, now: float) -> None:
    _apply(view, entry, event, now)
    who = (entry.address.room or "", event.peer)
    _reserve(view, entry.seq, who, event.generation, view.config.costs.producer)


def _data_producer_opened(view: View, entry: LogEntry, event: events.DataProducerOpened, now: float) -> None:
    _apply(view, entry, event, now)
    who = (entry.address.room or "", event.peer)
    _reserve(view, entry.seq, who, event.generation, view.config.costs.data)


def _relay_commanded(view: View, entry: LogEntry, command: commands.OpenRelay, now: float) -> None:
    _apply(view, entry, command, now)
    room = view.state.rooms.get(command.room)
    relay = room.relays.get((command.producer, command.target)) if room else None
    if relay is not None and relay.source == command.source:
        _reserve_relay(view, entry.seq, command.room, command.source, command.target)


def _relays_commanded(view: View, entry: LogEntry, command: commands.OpenRelays, now: float) -> None:
    _apply(view, entry, command, now)
    room = view.state.rooms.get(command.room)
    for order in command.relays:
        relay = room.relays.get((order.producer, command.target)) if room else None
        if relay is not None and relay.source == order.source:
            _reserve_relay(view, entry.seq, command.room, order.source, command.target)


def _reserve_relay(view: View, seq: int, room: str, source: Place, target: Place) -> None:
    for place in (source, target):
        if worker := view.fleet.at(place):
            worker.reservations.reserve(seq, (room, ""), view.config.micro(view.config.costs.relay))
            view.fleet.touch(worker)


def _relays_requested(view: View, entry: LogEntry, event: events.RelaysRequested, _: float) -> None:
    target = Place(server=event.server, worker=event.worker)
    if view.state.worker(target):
        view.relay_requests.add(RelayRequest(entry.seq, event.room, target, list(event.producers), entry.message))


def _consumers_opened(view: View, entry: LogEntry, event: events.ConsumersOpened, now: float) -> None:
    _apply(view, entry, event, now)
    costs = view.config.costs
    data = sum(it.kind == "data" for it in event.consumers)
    cost = costs.consumer * (len(event.consumers) - data) + costs.data * data
    _reserve(view, entry.seq, _peer_of(entry), event.generation, cost)


def _relay_changed(view: View, entry: LogEntry, event: events.RelayOpened | events.RelayClosed, now: float) -> None:
    _apply(view, entry, event, now)
    view.parked.wake(entry.address.room or "", event.producer)
    view.relay_requests.wake(entry.address.room or "", event.producer)


def _relay_failed(view: View, entry: LogEntry, event: events.RelayFailed, now: float) -> None:
    """The agent is about to reject the consumes that waited for the relay, so they are not due before ``overdue_s``."""
    _apply(view, entry, event, now)
    room = entry.address.room or ""
    view.parked.wake(room, event.producer)
    view.relay_requests.wake(room, event.producer)
    for intent in view.open_intents.of_room(room):
        intent.since_s = now


#: The function that folds each kind of message; the others go into the projected state only.
_RULES: dict[type[Payload], Callable[[View, LogEntry, Any, float], None]] = {
    commands.PlacePeer: _peer_placed,
    commands.OpenRelay: _relay_commanded,
    commands.OpenRelays: _relays_commanded,
    events.RelaysRequested: _relays_requested,
    events.ConsumersOpened: _consumers_opened,
    events.PeerJoined: _peer_joined,
    events.PeerLeft: _peer_left,
    events.PeerMoved: _peer_arrived,
    events.PeerStranded: _peer_unschedulable,
    events.ServerStarted: _server_changed,
    events.ServerStopped: _server_changed,
    events.ServerLost: _server_changed,
    events.ServerDraining: _server_changed,
    events.WorkerStarted: _server_changed,
    events.WorkerDied: _server_changed,
    events.LoadSampled: _load_sampled,
    events.ProducerOpened: _producer_opened,
    events.DataProducerOpened: _data_producer_opened,
    events.RelayOpened: _relay_changed,
    events.RelayClosed: _relay_changed,
    events.RelayFailed: _relay_failed,
}
