"""Peers that have to be moved from a draining server, and the moves that are under way. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mafalda.allocator.core.state.open_intents import Peer
from mafalda.contract.messages.envelope import Message
from mafalda.projection.state import PeerState, ServerState


def may_be_moved(server: ServerState, peer: PeerState) -> bool:
    """Whether a peer of a draining server may be moved now.

    A peer with a single transport is a drop-in's: its application would lose the transport, so it stays until the
    deadline. A peer that is being placed is moved when its agent has reported it.
    """
    return server.force_drain or (peer.status == "joined" and not peer.one_transport)


@dataclass(slots=True, eq=False)
class DrainingPeer:
    """A peer on a draining server, at one placement. ``since_s`` is when its move was last decided, monotonic."""

    room: str
    peer: str
    generation: int
    server: str
    since_s: float = float("-inf")

    @property
    def who(self) -> Peer:
        return self.room, self.peer


@dataclass(frozen=True, slots=True)
class Move:
    """A move that was commanded and that the agent of the new place has not reported yet."""

    server: str  # the one that drains
    generation: int
    began_s: float


@dataclass(slots=True)
class Drains:
    """All drains of the fleet.

    | a peer on a draining server | what happens | next |
    | --- | --- | --- |
    | placed | it may be moved and less than ``max_parallel_moves`` are under way | commanded |
    | commanded | the new place is in the log | moving |
    | moving | its new agent reports it, it leaves, or its new worker ends | not on the server any more |
    | placed, and may not be moved | the deadline passes (``force``) | placed, and may be moved |
    | any | the drain is cancelled | placed, and stays |
    """

    _events: dict[str, Message | None] = field(default_factory=dict)  # server: its last ServerDraining
    _peers: dict[Peer, DrainingPeer] = field(default_factory=dict)
    _moves: dict[Peer, Move] = field(default_factory=dict)

    def set_draining(self, server: str, draining: bool, event: Message | None) -> None:
        """A server drains from now on, or does not."""
        if draining:
            self._events[server] = event
        elif server in self._events:
            del self._events[server]
            self._peers = {who: peer for who, peer in self._peers.items() if peer.server != server}

    def __iter__(self) -> Iterator[str]:
        """The draining servers, by id."""
        return iter(sorted(self._events))

    def event(self, server: str) -> Message | None:
        """The event since which a server drains."""
        return self._events.get(server)

    def peer(self, who: Peer, generation: int, server: str) -> DrainingPeer:
        """The stimulus of a peer on a draining server: the same one as long as it is placed there."""
        known = self._peers.get(who)
        if known is None or (known.generation, known.server) != (generation, server):
            known = self._peers[who] = DrainingPeer(*who, generation, server)
        return known

    def commanded(self, who: Peer, move: Move) -> None:
        """A peer's move is in the log."""
        self._moves[who] = move

    def ended(self, who: Peer) -> None:
        """A peer has arrived at its new place, has left, or has lost its place."""
        self._moves.pop(who, None)
        self._peers.pop(who, None)

    def under_way(self, server: str, now: float, timeout_s: float) -> int:
        """How many peers are being moved from a server."""
        self._moves = {who: move for who, move in self._moves.items() if now - move.began_s < timeout_s}
        return sum(move.server == server for move in self._moves.values())
