"""Which allocator decides for a room. Pure.

Each room belongs to one of the allocators that report, by rendezvous hashing (Thaler and Ravishankar, 1998): all find
the same owner without asking each other, and when one comes or goes, only its own rooms change hands. Two that see
different allocators for a moment may both decide, or neither. Of two commands the log takes one; what nobody decides
is overdue after a while (``work_queue.due``), and then everybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

#: The owners of so many rooms are remembered.
_MAX_REMEMBERED = 65_536


@dataclass(slots=True)
class _Allocator:
    """Another allocator. ``moved_on_s`` is when a report first had this number of finished decisions."""

    heard_s: float
    decided: int
    moved_on_s: float


class RoomOwners:
    """The allocators that report, and their rooms.

    Args:
        own: The id of this allocator.
        timeout_s: An allocator that has not reported for so long has ended, or hangs.
    """

    def __init__(self, own: str, timeout_s: float) -> None:
        self.own = own
        self._timeout_s = timeout_s
        self._others: dict[str, _Allocator] = {}
        self._owners: dict[str, str] = {}

    @property
    def others(self) -> list[str]:
        """The ids of the other allocators that report."""
        return list(self._others)

    def report(self, allocator: str, now: float, *, decided: int) -> bool:
        """Another allocator has reported that it works. Returns whether it was not known to.

        Args:
            allocator: Its id.
            now: Seconds, monotonic.
            decided: How many decisions it has finished since its start.
        """
        known = self._others.get(allocator)
        if known is None:
            self._others[allocator] = _Allocator(now, decided, now)
            self._owners.clear()
            return True
        known.heard_s = now
        if known.decided != decided:
            known.decided, known.moved_on_s = decided, now
        return False

    def leave(self, allocator: str) -> bool:
        """An allocator is leaving. Returns whether rooms change hands."""
        if self._others.pop(allocator, None) is None:
            return False
        self._owners.clear()
        return True

    def expire(self, now: float) -> list[str]:
        """Forget the allocators that have not reported for too long, and return their ids."""
        gone = [name for name, it in self._others.items() if it.heard_s < now - self._timeout_s]
        for allocator in gone:
            self.leave(allocator)
        return gone

    def suspended(self, now: float) -> None:
        """This process was late for a while, so that it has heard nobody: the others may have reported."""
        for other in self._others.values():
            other.heard_s = now

    def owner(self, room: str) -> str:
        """The id of the allocator that decides for a room."""
        found = self._owners.get(room)
        if found is None:
            if len(self._owners) >= _MAX_REMEMBERED:
                self._owners.clear()
            found = self._owners[room] = max((self.own, *self._others), key=lambda name: _weight(name, room))
        return found

    def is_own(self, room: str) -> bool:
        """Whether this allocator decides for a room."""
        return not self._others or self.owner(room) == self.own

    def moves_on(self, allocator: str, since_s: float) -> bool:
        """Whether an allocator has finished a decision since ``since_s``, as far as it has reported."""
        known = self._others.get(allocator)
        return known is not None and known.moved_on_s > since_s


def _weight(allocator: str, room: str) -> bytes:
    return blake2b(f"{allocator} {room}".encode(), digest_size=8).digest()
