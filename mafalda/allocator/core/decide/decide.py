"""Decide for one stimulus. Pure.

The same view, stimulus, time and random numbers give the same decision, byte for byte. Each message of a decision
has an id that follows from its content, so that several allocators that decide the same store it once.
"""

from __future__ import annotations

from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.decide.intents import decide_intent
from mafalda.allocator.core.decide.moving import move_peer
from mafalda.allocator.core.decide.relaying import open_relays
from mafalda.allocator.core.decide.replacing import replace_peer
from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.placement.policy import Rng
from mafalda.allocator.core.state.draining import DrainingPeer
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.stimulus import Stimulus
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import events


def decide(view: View, stimulus: Stimulus, now: float, rng: Rng) -> Decision:
    """Decide for one stimulus.

    Args:
        view: What is known.
        stimulus: An open intent, an unplaced peer, a peer to be moved, requested relays, or a server whose load
            reports are missing.
        now: Seconds, monotonic.
        rng: The only source of randomness.
    """
    match stimulus:
        case OpenIntent():
            return decide_intent(view, stimulus, now, rng)
        case UnplacedPeer():
            return replace_peer(view, stimulus, now, rng)
        case DrainingPeer():
            return move_peer(view, stimulus, rng)
        case RelayRequest():
            return open_relays(view, stimulus)
        case ServerView():
            return _lose_server(stimulus)


def _lose_server(server: ServerView) -> Decision:
    append = Append(
        derived_id("server-lost", server.server, server.incarnation),
        subjects.server_event(server.server, events.ServerLost.action),
        events.ServerLost(server=server.server, incarnation=server.incarnation),
    )
    return Decision("server-lost", events=(append,))
