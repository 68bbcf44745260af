"""The allocator's own state of each room: its workers, its last command, its generations. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mafalda.allocator.core.fleet.candidates import WorkerKey

IdleRoom = tuple[int, int]  # command_seq, floor

#: Up to so many peers that left a room, each one's generation is kept; beyond that, only the greatest one.
_MAX_LEFT = 1_000


@dataclass(slots=True)
class RoomPlacements:
    """One room.

    ``command_seq`` is the sequence of its last command. ``places`` counts its peers by worker, the newest worker
    last. ``left`` has the last generation of each peer that left, ``floor`` the greatest of those that are not in
    it any more. ``placed_s`` is when a peer was last placed, in monotonic seconds.
    """

    command_seq: int = 0
    places: dict[WorkerKey, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    floor: int = 0
    placed_s: float = float("-inf")

    def attach(self, key: WorkerKey) -> None:
        """Count a peer on a worker."""
        self.places[key] = self.places.get(key, 0) + 1

    def detach(self, key: WorkerKey) -> None:
        """Stop counting a peer on a worker."""
        if (count := self.places.get(key, 0)) > 1:
            self.places[key] = count - 1
        else:
            self.places.pop(key, None)

    def next_generation(self, peer: str, current: int | None) -> int:
        """A generation greater than any that this peer ever had here, also in an earlier membership."""
        return 1 + max(current or 0, self.left.get(peer, 0), self.floor)

    def last_generation(self, peer: str) -> int:
        """The last generation of a peer that left, or the greatest that it can have had if that is not kept."""
        return self.left.get(peer, self.floor)

    def leave(self, peer: str, generation: int) -> None:
        """Keep the generation of a peer that leaves, in case it joins again."""
        self.left[peer] = max(generation, self.left.pop(peer, 0))
        if len(self.left) > _MAX_LEFT:
            self._merge_left()

    def idle(self) -> IdleRoom:
        """The two numbers to keep when the room's last peer has left."""
        self._merge_left()
        return self.command_seq, self.floor

    def _merge_left(self) -> None:
        self.floor = max(self.floor, *self.left.values(), 0)
        self.left.clear()


@dataclass(slots=True)
class Rooms:
    """All rooms: those with peers, and two numbers of each idle one."""

    _active: dict[str, RoomPlacements] = field(default_factory=dict)
    _idle: dict[str, IdleRoom] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """The ids of all active rooms."""
        return iter(self._active)

    def idle_rooms(self) -> dict[str, IdleRoom]:
        """What is kept of each idle room."""
        return dict(self._idle)

    def add_idle(self, room: str, command_seq: int, floor: int) -> None:
        """Add an idle room, out of a snapshot."""
        self._idle[room] = (command_seq, floor)

    def forget_idle(self, before_seq: int) -> None:
        """Forget the idle rooms whose last command is not in the log any more."""
        self._idle = {room: kept for room, kept in self._idle.items() if kept[0] >= before_seq}

    def active(self, room: str) -> RoomPlacements | None:
        """A room that has peers or had a command since its last peer left."""
        return self._active.get(room)

    def get(self, room: str) -> RoomPlacements:
        """A room, to read; a new one if it is unknown."""
        if found := self._active.get(room):
            return found
        command_seq, floor = self._idle.get(room, (0, 0))
        return RoomPlacements(command_seq=command_seq, floor=floor)

    def ensure(self, room: str) -> RoomPlacements:
        """A room, to change."""
        found = self._active.get(room)
        if found is None:
            found = self._active[room] = self.get(room)
            self._idle.pop(room, None)
        return found

    def deactivate(self, room: str) -> None:
        """Keep only what an idle room needs: its last peer has left."""
        self._idle[room] = self._active.pop(room).idle()
