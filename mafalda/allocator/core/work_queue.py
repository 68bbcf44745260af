"""Which stimuli are to be decided, by log entry and by time. Pure.

Each log entry is the owner's of its room first (``of_entry``). What that one leaves undone, every other allocator finds
by its timer (``due``).
"""

from __future__ import annotations

from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.state.draining import DrainingPeer, may_be_moved
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.stimulus import Stimulus, room_of
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View

#: Unschedulable peers are tried so many at a time: if the first ones find no place, the others do not either.
_UNSCHEDULABLE_AT_A_TIME = 64

#: A room in which another allocator places peers is left to it for so many times ``overdue_s``.
_LEFT_TO_OTHERS = 5
#: A room whose owner goes on finishing decisions is left to it for so many times ``overdue_s``: it may have thousands
#: to decide. Clients wait 15 s.
_LEFT_TO_OWNER = 10


def of_entry(view: View, seq: int) -> list[Stimulus]:
    """The stimuli of one log entry in own rooms: its intent, requested relays, or the peers whose place it ended."""
    owners = view.owners
    if intent := view.open_intents.get(seq):
        return [intent] if owners.is_own(intent.peer[0]) else []
    if request := view.relay_requests.get(seq):
        return [request] if owners.is_own(request.room) else []
    return [peer for peer in view.unplaced.of_entry(seq) if owners.is_own(peer.room)]


def owned(view: View) -> list[Stimulus]:
    """All that is undecided in own rooms: when an allocator has come or gone, some of them were another's before."""
    pending: list[Stimulus] = [*view.open_intents, *view.relay_requests, *view.unplaced]
    return [stimulus for stimulus in pending if view.owners.is_own(room_of(stimulus))]


def woken(view: View) -> list[Stimulus]:
    """The parked intents and requests to be decided again because of entries that are folded now."""
    intents = [intent for seq in view.parked.take_woken() if (intent := view.open_intents.get(seq))]
    return [*intents, *view.relay_requests.take_woken()]


def due(view: View, now: float) -> list[Stimulus]:
    """What no allocator has done for too long, oldest first; servers to be declared lost; peers to be moved."""
    late: list[Stimulus] = [
        intent for intent in view.open_intents if _is_due(view, intent.peer[0], intent.since_s, now)
    ]
    unplaced = [peer for peer in view.unplaced if _is_due(view, peer.room, peer.since_s, now)]
    late += [peer for peer in unplaced if not peer.unschedulable]
    unschedulable = [peer for peer in unplaced if peer.unschedulable]
    late += sorted(unschedulable, key=lambda peer: peer.since_s)[:_UNSCHEDULABLE_AT_A_TIME]
    late += view.liveness.lost_servers(now)
    late += [peer for server in view.drains for peer in _to_move(view, server, now)]
    return late


def waiting(view: View, *, at_a_time: int) -> list[Stimulus]:
    """The joins that have waited longest for capacity: if none of them finds a place, the others do not either."""
    return list(view.open_intents.waiting(at_a_time))


def _to_move(view: View, server_id: str, now: float) -> list[DrainingPeer]:
    """The next peers of a draining server to be moved: as many as may be under way at a time."""
    server = view.state.servers[server_id]
    free = view.config.max_parallel_moves - view.drains.under_way(server_id, now, view.config.move_timeout_s)
    found = []
    for who in (who for worker in server.workers.values() for who in worker.peers):
        peer = view.peer(who) if view.owners.is_own(who[0]) else None
        if peer and may_be_moved(server, peer):
            found.append(view.drains.peer(who, peer.generation, server_id))
    found = [peer for peer in found if peer.since_s <= now - view.config.overdue_s]
    return sorted(found, key=lambda peer: (peer.since_s, peer.who))[: max(free, 0)]


def _is_due(view: View, room_id: str, since_s: float, now: float) -> bool:
    """Late, and not in a room that another allocator sees to at the moment, unless very late."""
    overdue_s = view.config.overdue_s
    if since_s > now - overdue_s:
        return False
    if not view.owners.is_own(room_id) and view.owners.moves_on(view.owners.owner(room_id), now - overdue_s):
        return since_s <= now - overdue_s * _LEFT_TO_OWNER
    room = view.rooms.active(room_id)
    return room is None or room.placed_s <= now - overdue_s or since_s <= now - overdue_s * _LEFT_TO_OTHERS


def is_left(view: View, stimulus: Stimulus, now: float) -> bool:
    """Whether a stimulus is left to the owner of its room for now: it was this allocator's before, or was overdue."""
    if isinstance(stimulus, ServerView) or view.owners.is_own(room_of(stimulus)):
        return False
    if isinstance(stimulus, OpenIntent | UnplacedPeer):
        return not _is_due(view, room_of(stimulus), stimulus.since_s, now)
    return True


def is_open(view: View, stimulus: Stimulus, now: float) -> bool:
    """Whether a stimulus still needs a decision."""
    match stimulus:
        case OpenIntent():
            return view.open_intents.get(stimulus.seq) is stimulus
        case UnplacedPeer():
            return view.unplaced.get((stimulus.room, stimulus.peer)) is stimulus
        case DrainingPeer():
            peer = view.peer(stimulus.who)
            return peer is not None and (peer.generation, peer.place.server) == (stimulus.generation, stimulus.server)
        case RelayRequest():
            return view.relay_requests.get(stimulus.seq) is stimulus
        case ServerView():
            return view.liveness.is_lost(stimulus, now)


def mark_decided(view: View, stimulus: Stimulus, now: float) -> None:
    """A stimulus is decided now, so it is not due again before ``overdue_s``.

    An intent of a placed peer stays open until its agent answers it; after ``consume_forget_s`` it is closed without
    an answer.
    """
    if isinstance(stimulus, OpenIntent | UnplacedPeer | DrainingPeer):
        stimulus.since_s = now
    if not isinstance(stimulus, OpenIntent) or stimulus.standing != "placed" or stimulus.address.action == "join":
        return
    if now - stimulus.first_s > view.config.consume_forget_s:
        view.counters["forgotten"] += 1
        view.open_intents.close(stimulus.seq)


def discard(view: View, stimulus: Stimulus) -> None:
    """Remove a stimulus whose decision raised an exception, so that it does not do so at each tick."""
    match stimulus:
        case OpenIntent():
            view.open_intents.close(stimulus.seq)
        case UnplacedPeer():
            view.unplaced.remove((stimulus.room, stimulus.peer))
        case DrainingPeer():
            stimulus.since_s = float("inf")
        case RelayRequest():
            view.relay_requests.decided(stimulus, ())
