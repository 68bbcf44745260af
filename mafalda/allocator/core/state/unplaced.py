"""Peers whose worker has ended and that have no new place yet. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mafalda.allocator.core.state.open_intents import Peer
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.envelope import Message


@dataclass(slots=True, eq=False)
class UnplacedPeer:
    """A peer without a place.

    ``seq`` is the log entry that ended its place and ``event`` its message. ``since_s`` is when it was last decided, in
    monotonic seconds. ``unschedulable`` is whether the log says already that no worker can take it.
    """

    room: str
    peer: str
    seq: int
    since_s: float
    cause: PlacementCause
    event: Message | None
    unschedulable: bool = False


@dataclass(slots=True)
class UnplacedPeers:
    """All unplaced peers, the longest unplaced first, with an index by log entry."""

    _by_peer: dict[Peer, UnplacedPeer] = field(default_factory=dict)
    _by_seq: dict[int, dict[Peer, UnplacedPeer]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[UnplacedPeer]:
        return iter(self._by_peer.values())

    def add(self, unplaced: UnplacedPeer) -> None:
        """Add a peer, or replace what is known of it."""
        peer = (unplaced.room, unplaced.peer)
        self.remove(peer)
        self._by_peer[peer] = unplaced
        self._by_seq.setdefault(unplaced.seq, {})[peer] = unplaced

    def remove(self, peer: Peer) -> None:
        """Remove a peer that has a place again or has left, if it is there."""
        unplaced = self._by_peer.pop(peer, None)
        if unplaced is None:
            return
        same_entry = self._by_seq[unplaced.seq]
        del same_entry[peer]
        if not same_entry:
            del self._by_seq[unplaced.seq]

    def get(self, peer: Peer) -> UnplacedPeer | None:
        """The unplaced peer of this room and id."""
        return self._by_peer.get(peer)

    def of_entry(self, seq: int) -> list[UnplacedPeer]:
        """The peers whose place a log entry ended."""
        return list(self._by_seq.get(seq, {}).values())
