"""What a decision is made for: an intent, a peer without a place or to be moved, relays, a lost server. Pure."""

from __future__ import annotations

from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.state.draining import DrainingPeer
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.contract.messages.envelope import Message

Stimulus = OpenIntent | UnplacedPeer | DrainingPeer | RelayRequest | ServerView


def room_of(stimulus: Stimulus) -> str:
    """The room whose decisions have to be made one after the other; empty for a server."""
    match stimulus:
        case OpenIntent():
            return stimulus.peer[0]
        case UnplacedPeer() | DrainingPeer() | RelayRequest():
            return stimulus.room
        case ServerView():
            return ""


def cause_of(stimulus: Stimulus) -> Message | None:
    """The message that the stimulus came from, if it was decoded."""
    match stimulus:
        case OpenIntent():
            return stimulus.message
        case UnplacedPeer():
            return stimulus.event
        case RelayRequest():
            return stimulus.message
        case DrainingPeer() | ServerView():
            return None


def seed_of(stimulus: Stimulus) -> str:
    """The seed of the decision's random numbers: the same log gives the same ones."""
    match stimulus:
        case OpenIntent():
            return stimulus.rejection_id
        case UnplacedPeer():
            return f"{stimulus.room}/{stimulus.peer}/{stimulus.seq}"
        case DrainingPeer():
            return f"{stimulus.room}/{stimulus.peer}/drain/{stimulus.generation}"
        case RelayRequest():
            return f"{stimulus.room}/relays/{stimulus.seq}"
        case ServerView():
            return stimulus.incarnation


def log_fields(stimulus: Stimulus) -> dict[str, str | None]:
    """The fields of a log line that say what the stimulus is about."""
    match stimulus:
        case OpenIntent():
            return {"room_id": stimulus.peer[0], "peer_id": stimulus.peer[1]}
        case UnplacedPeer() | DrainingPeer():
            return {"room_id": stimulus.room, "peer_id": stimulus.peer}
        case RelayRequest():
            return {"room_id": stimulus.room, "server_id": stimulus.target.server}
        case ServerView():
            return {"server_id": stimulus.server, "incarnation": stimulus.incarnation}
