"""What an allocator keeps of each room beside the contract's state: its places, relays and numbers. Pure.

What does not belong here: peers, producers and relays themselves (``mafalda.projection.state``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mafalda.allocator.core.state.candidates import WorkerKey
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import RelayState, RoomState

#: Peers that left are remembered one by one up to this many, then by the greatest generation alone.
_REMEMBERED = 1_000


@dataclass(slots=True)
class RoomView:
    """One room. ``command_seq`` is the last sequence of its commands, also when the room is empty.

    ``places`` counts peers by worker, the newest worker last. ``placed_s`` is when a peer was last placed.
    """

    command_seq: int = 0
    places: dict[WorkerKey, int] = field(default_factory=dict)
    targets: dict[str, set[Place]] = field(default_factory=dict)  # by producer; may hold some that are gone
    left: dict[str, int] = field(default_factory=dict)
    floor: int = 0
    placed_s: float = float("-inf")

    def attach(self, key: WorkerKey) -> None:
        """A peer is on this worker."""
        self.places[key] = self.places.get(key, 0) + 1

    def detach(self, key: WorkerKey) -> None:
        """A peer is there no more."""
        if (count := self.places.get(key, 0)) > 1:
            self.places[key] = count - 1
        else:
            self.places.pop(key, None)

    def next_generation(self, peer: str, current: int | None) -> int:
        """Greater than any that this peer ever had here, also in an earlier membership."""
        return 1 + max(current or 0, self.left.get(peer, 0), self.floor)

    def leave(self, peer: str, generation: int) -> None:
        """A peer left; should it come again, its generations go on."""
        self.left[peer] = max(generation, self.left.pop(peer, 0))
        if len(self.left) > _REMEMBERED:
            self._forget_names()

    def rest(self) -> tuple[int, int]:
        """The room is empty: all that must be kept of it, its last command and its greatest generation."""
        self._forget_names()
        return self.command_seq, self.floor

    def _forget_names(self) -> None:
        self.floor = max(self.floor, *self.left.values(), 0)
        self.left.clear()

    def relays_of(self, room: RoomState, producer: str) -> dict[Place, RelayState]:
        """A producer's relays by target, in a fixed order, without looking through the whole room."""
        targets = self.targets.get(producer, set())
        found = {}
        for target in sorted(targets, key=lambda place: (place.server, place.worker)):
            if relay := room.relays.get((producer, target)):
                found[target] = relay
            else:
                targets.discard(target)
        if not targets:
            self.targets.pop(producer, None)
        return found
