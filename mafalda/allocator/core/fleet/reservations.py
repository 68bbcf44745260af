"""The cost of what was placed on a worker and is not in its load reports yet, in millionths of a core. Pure.

A report is an average over a past interval, so the newest report lacks everything that was placed since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Owner = tuple[str, str]  # room, peer

#: How much a report from before a reservation ages it. More than 0, so that the reservations of an agent whose
#: ``as_of_seq`` does not advance end too.
UNSEEN_WEIGHT = 0.25


@dataclass(slots=True, eq=False)
class Reservation:
    """A cost that begins with log entry ``seq`` and ends after ``settle_s`` seconds of reports."""

    seq: int
    owner: Owner
    cost: int
    age_s: float = 0.0


@dataclass(slots=True, eq=False)
class Reservations:
    """The reservations on one worker. ``total`` is their sum.

    A decision is held until its command is in the log. A peer that was placed has an advance for everything that it is
    going to open; each object that it opens has a reservation of its own, which is taken out of the advance.
    """

    total: int = 0
    _entries: list[Reservation] = field(default_factory=list)
    _advances: dict[Owner, Reservation] = field(default_factory=dict)
    _holds: dict[str, int] = field(default_factory=dict)
    _held_peers: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Reservation]:
        """All reservations but those of decisions that are not in the log yet."""
        return iter(self._entries)

    @property
    def held_peers(self) -> int:
        """How many decisions that place a peer on this worker are not in the log yet."""
        return len(self._held_peers)

    def hold(self, key: str, cost: int, *, is_peer: bool = False) -> None:
        """Reserve for a decision that is not in the log yet. ``is_peer``: it places a peer, and opens no relay."""
        self.release(key)
        if is_peer:
            self._held_peers.add(key)
        self._holds[key] = cost
        self.total += cost

    def release(self, key: str) -> bool:
        """End the reservation of a decision: it is in the log now, or was not appended."""
        cost = self._holds.pop(key, None)
        self._held_peers.discard(key)
        self.total -= cost or 0
        return cost is not None

    def advance(self, seq: int, owner: Owner, cost: int) -> None:
        """Reserve for everything that a new peer is going to open."""
        entry = Reservation(seq, owner, cost)
        self._entries.append(entry)
        self._advances[owner] = entry
        self.total += cost

    def reserve(self, seq: int, owner: Owner, cost: int) -> None:
        """Reserve for an object that was opened; the cost is taken out of its owner's advance, if there is one."""
        if advance := self._advances.get(owner):
            drawn = min(advance.cost, cost)
            advance.cost -= drawn
            self.total -= drawn
        self._entries.append(Reservation(seq, owner, cost))
        self.total += cost

    def forget(self, owner: Owner) -> None:
        """End all reservations of an owner that left the worker."""
        self._advances.pop(owner, None)
        self._keep([entry for entry in self._entries if entry.owner != owner])

    def report(self, as_of_seq: int, interval_s: float, settle_s: float) -> None:
        """Age the reservations by a report, and end those that the reports show by now.

        Args:
            as_of_seq: The last log entry that the agent had acted on.
            interval_s: Length of the report's interval, in seconds.
            settle_s: Seconds of reports after which the reports show what was reserved.
        """
        if not self._entries:
            return
        for entry in self._entries:
            entry.age_s += interval_s if entry.seq <= as_of_seq else interval_s * UNSEEN_WEIGHT
        self._keep([entry for entry in self._entries if entry.age_s < settle_s])
        self._advances = {owner: entry for owner, entry in self._advances.items() if entry.age_s < settle_s}

    def _keep(self, entries: list[Reservation]) -> None:
        if len(entries) != len(self._entries):
            self._entries = entries
            self.total = sum(entry.cost for entry in entries) + sum(self._holds.values())
