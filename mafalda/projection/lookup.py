"""Look up what a message is about, and check that the message is about its present incarnation or generation."""

from __future__ import annotations

from mafalda.projection.state import UNPLACED, PeerState, ServerState, State


def current_server(state: State, server: str, incarnation: str) -> ServerState | None:
    """The server, if it runs and the message is from its present incarnation."""
    found = state.servers.get(server)
    return found if found and found.incarnation == incarnation and found.status in ("up", "draining") else None


def current_peer(state: State, room: str | None, peer: str | None, generation: int) -> PeerState | None:
    """The peer, if the message is about its present generation."""
    found = state.rooms[room].peers.get(peer) if room in state.rooms and peer else None
    return found if found and found.generation == generation else None


def placed_peer(state: State, room: str | None, peer: str | None, generation: int) -> PeerState | None:
    """As ``current_peer``, if the worker of the peer is alive."""
    found = current_peer(state, room, peer, generation)
    return found if found and found.status != UNPLACED else None
