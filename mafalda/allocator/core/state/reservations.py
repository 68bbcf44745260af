"""What a worker was given that its load reports do not show yet. In millionths of a core. Pure.

A report is an average over an interval that is over, so at every moment the newest report is wrong
by all that was placed since. What does not belong here: what a thing costs (``config``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

Owner = tuple[str, str]  # room, peer

#: How much a report counts that does not say that it has seen what was placed. More than nothing, so
#: that an agent whose ``as_of_seq`` stands still does not hold its reservations for ever.
UNSEEN_WEIGHT = 0.25


@dataclass(slots=True, eq=False)
class Reservation:
    """A cost that begins with log entry ``seq`` and ends after ``settle_s`` seconds of reports."""

    seq: int
    owner: Owner
    cost: int
    age_s: float = 0.0


@dataclass(slots=True, eq=False)
class Ledger:
    """The reservations on one worker. ``total`` is their sum."""

    total: int = 0
    _entries: list[Reservation] = field(default_factory=list)
    _advances: dict[Owner, Reservation] = field(default_factory=dict)
    _holds: dict[str, int] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """How many decisions for this worker are under way."""
        return len(self._holds)

    def hold(self, key: str, cost: int) -> None:
        """Count a decision that is not in the log yet."""
        self.release(key)
        self._holds[key] = cost
        self.total += cost

    def release(self, key: str) -> bool:
        """Stop counting it: it is in the log now, or will never be."""
        cost = self._holds.pop(key, None)
        self.total -= cost or 0
        return cost is not None

    def advance(self, seq: int, owner: Owner, cost: int) -> None:
        """Reserve for all that a new peer is going to open."""
        entry = Reservation(seq, owner, cost)
        self._entries.append(entry)
        self._advances[owner] = entry
        self.total += cost

    def reserve(self, seq: int, owner: Owner, cost: int) -> None:
        """Reserve for something that was opened; it is drawn from its owner's advance, if there is one."""
        if advance := self._advances.get(owner):
            drawn = min(advance.cost, cost)
            advance.cost -= drawn
            self.total -= drawn
        self._entries.append(Reservation(seq, owner, cost))
        self.total += cost

    def forget(self, owner: Owner) -> None:
        """The owner is gone from here; what was expected of it will not come."""
        self._advances.pop(owner, None)
        self._keep([entry for entry in self._entries if entry.owner != owner])

    def report(self, as_of_seq: int, interval_s: float, settle_s: float) -> None:
        """A report came: reservations grow older, and the settled ones end.

        Args:
            as_of_seq: The last log entry that the agent had acted on.
            interval_s: Seconds that the report is about.
            settle_s: Seconds of reports after which a reservation is held to be in the figures.
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
