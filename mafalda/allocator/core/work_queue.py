"""What is to be decided, and when: by log entry, and by time. Pure.

Each log entry is given to one allocator first (``of_entry``). Should that one be gone, the timer
finds what it left (``due``), in every other. What does not belong here: the deciding (``decide``).
"""

from __future__ import annotations

from mafalda.allocator.core.decide import Stimulus
from mafalda.allocator.core.state.candidates import ServerView
from mafalda.allocator.core.state.open_intents import Homeless, OpenIntent
from mafalda.allocator.core.state.view import View
from mafalda.contract.messages.envelope import Message

#: Stranded peers are tried so many at a time: if the first find no place, the others do not either.
_STRANDED_AT_A_TIME = 64

#: An allocator that is seen to place peers of a room is left to it for so many times ``overdue_s``.
_PATIENCE = 5


def of_entry(view: View, seq: int) -> list[Stimulus]:
    """What one log entry calls for: its intent, or the peers that it left without a place."""
    if intent := view.open.get(seq):
        return [intent]
    return [homeless for homeless in view.homeless.values() if homeless.seq == seq]


def woken(view: View) -> list[Stimulus]:
    """What waited for an entry that is folded now."""
    return [intent for seq in view.take_woken() if (intent := view.open.get(seq))]


def due(view: View, now: float) -> list[Stimulus]:
    """What nobody has done for too long, oldest first."""
    late: list[Stimulus] = [intent for intent in view.open if _is_due(view, intent.peer[0], intent.since_s, now)]
    homeless = [peer for peer in view.homeless.values() if _is_due(view, peer.room, peer.since_s, now)]
    late += [peer for peer in homeless if not peer.stranded]
    stranded = [peer for peer in homeless if peer.stranded]
    late += sorted(stranded, key=_since)[:_STRANDED_AT_A_TIME]
    late += view.lost_servers(now)
    return late


def _since(peer: Homeless) -> float:
    return peer.since_s


def _is_due(view: View, room: str, since_s: float, now: float) -> bool:
    """Late, and not in a room in which another allocator is seen to be at work, unless very late."""
    overdue = view.config.overdue_s
    if since_s > now - overdue:
        return False
    kept = view.rooms.get(room)
    return kept is None or kept.placed_s <= now - overdue or since_s <= now - overdue * _PATIENCE


def is_open(view: View, stimulus: Stimulus) -> bool:
    """Whether it still calls for something."""
    match stimulus:
        case OpenIntent():
            return view.open.get(stimulus.seq) is stimulus
        case Homeless():
            return view.homeless.get((stimulus.room, stimulus.peer)) is stimulus
        case ServerView():
            return stimulus.up and view.fleet.servers.get(stimulus.server) is stimulus


def looked_at(view: View, stimulus: Stimulus, now: float) -> None:
    """It was decided just now: whatever came of it, it is not due again before long.

    A consume stays until its agent answers it, or until that is past hoping for.
    """
    if isinstance(stimulus, OpenIntent | Homeless):
        stimulus.since_s = now
    if not isinstance(stimulus, OpenIntent) or stimulus.address.action not in ("consume", "consume-data"):
        return
    if now - stimulus.first_s > view.config.consume_forget_s:
        view.counters["forgotten"] += 1
        view.open.close(stimulus.seq)


def give_up(view: View, stimulus: Stimulus) -> None:
    """It breaks us: forget it, so that it does not do so again and again."""
    match stimulus:
        case OpenIntent():
            view.open.close(stimulus.seq)
        case Homeless():
            view.homeless.pop((stimulus.room, stimulus.peer), None)


def names_of(stimulus: Stimulus) -> dict[str, str | None]:
    """What it is about, for a log line."""
    match stimulus:
        case OpenIntent():
            return {"room_id": stimulus.peer[0], "peer_id": stimulus.peer[1]}
        case Homeless():
            return {"room_id": stimulus.room, "peer_id": stimulus.peer}
        case ServerView():
            return {"server_id": stimulus.server, "incarnation": stimulus.incarnation}


def room_of(stimulus: Stimulus) -> str:
    """The room whose decisions must be made one after the other; empty for a server's."""
    match stimulus:
        case OpenIntent():
            return stimulus.peer[0]
        case Homeless():
            return stimulus.room
        case ServerView():
            return ""


def cause_of(stimulus: Stimulus) -> Message | None:
    """The message that it came with, as far as it could be read."""
    match stimulus:
        case OpenIntent():
            return stimulus.message
        case Homeless():
            return stimulus.event
        case ServerView():
            return None


def seed_of(stimulus: Stimulus) -> str:
    """What the dice are thrown with, so that the same log throws the same."""
    match stimulus:
        case OpenIntent():
            return stimulus.rejection_id
        case Homeless():
            return f"{stimulus.room}/{stimulus.peer}/{stimulus.seq}"
        case ServerView():
            return stimulus.incarnation
