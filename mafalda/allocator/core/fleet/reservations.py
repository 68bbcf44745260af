"""The cost of what was placed on a worker and is not in its load reports yet, in millionths of a core. Pure.

A report is an average over a past interval, so the newest report lacks everything that was placed since. Costs are
those of the configuration; the fleet multiplies their sum by what objects have really cost (``CostScale``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from mafalda.allocator.core.fleet.newcomers import NewcomerCosts, PeerKind

Owner = tuple[str, str]  # room, peer

#: How much a report from before a reservation ages it. More than 0, so that the reservations of an agent whose
#: ``as_of_seq`` does not advance end too.
UNSEEN_WEIGHT = 0.25

#: After so many seconds of reports a new peer that opened something has opened most of what it is going to open.
OBSERVED_AFTER_S = 1.0


@dataclass(slots=True, eq=False)
class Reservation:
    """A cost that begins with log entry ``seq`` and ends after ``settle_s`` seconds of reports.

    ``weight`` is the part of it that the reports do not show yet: 1 at first, then less with each report. ``seen_s`` is
    when ``late_reservations`` first saw it, in monotonic seconds.
    """

    seq: int
    owner: Owner
    cost: int
    age_s: float = 0.0
    weight: float = 1.0
    seen_s: float | None = None

    @property
    def reserved(self) -> int:
        """The cost that is still reserved."""
        return round(self.cost * self.weight)

    def grow_older(self, seconds: float) -> None:
        """Age by a report. Of what a report of one second does not show, half is taken to show in the next."""
        self.age_s += seconds
        self.weight = min(1.0, 0.5 ** (self.age_s - OBSERVED_AFTER_S))


@dataclass(slots=True, eq=False)
class Advance(Reservation):
    """The reservation for what a new peer has not opened yet: ``expected`` less ``opened``.

    ``observed`` is what newcomers' costs were told of this peer. ``is_leased``: its place was granted ahead, so its
    cost stays reserved as long as nothing is opened there.
    """

    kind: PeerKind = "peer"
    expected: int = 0
    opened: int = 0
    observed: int | None = None
    is_leased: bool = False

    def grow_older(self, seconds: float) -> None:
        """Age by a report, but for a place that is not used yet."""
        if not self.is_leased:
            Reservation.grow_older(self, seconds)

    def price(self) -> None:
        """Compute the cost again."""
        self.cost = max(0, self.expected - self.opened)


@dataclass(slots=True, eq=False)
class Reservations:
    """The reservations on one worker. ``total`` is their sum.

    A decision is held until its command is in the log. A peer that was placed has an advance for everything that it is
    going to open; each object that it opens has a reservation of its own, which is taken out of the advance.
    """

    total: int = 0
    _entries: dict[Owner, list[Reservation]] = field(default_factory=dict)
    _advances: dict[Owner, Advance] = field(default_factory=dict)
    _holds: dict[str, int] = field(default_factory=dict)
    _held_peers: set[str] = field(default_factory=set)
    _held_audience: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Reservation]:
        """All reservations but those of decisions that are not in the log yet."""
        return chain.from_iterable(self._entries.values())

    @property
    def held_peers(self) -> int:
        """How many decisions that place a peer on this worker are not in the log yet."""
        return len(self._held_peers)

    @property
    def held_audience(self) -> int:
        """How many of ``held_peers`` are audience."""
        return len(self._held_audience)

    @property
    def opened(self) -> int:
        """The cost of the objects among the reservations: what is neither an advance nor held."""
        return sum(entry.reserved for entry in self if not isinstance(entry, Advance))

    def hold(self, key: str, cost: int, *, is_peer: bool = False, is_audience: bool = False) -> None:
        """Reserve for a decision that is not in the log yet.

        Args:
            key: The decision's id.
            cost: What it adds.
            is_peer: It places a peer, and opens no relay.
            is_audience: The peer is audience.
        """
        self.release(key)
        if is_audience:
            self._held_audience.add(key)
        if is_peer:
            self._held_peers.add(key)
        self._holds[key] = cost
        self.total += cost

    def release(self, key: str) -> bool:
        """End the reservation of a decision: it is in the log now, or was not appended."""
        cost = self._holds.pop(key, None)
        self._held_peers.discard(key)
        self._held_audience.discard(key)
        self.total -= cost or 0
        return cost is not None

    def advance(self, seq: int, owner: Owner, cost: int, kind: PeerKind = "peer", *, is_leased: bool = False) -> None:
        """Reserve for everything that a new peer is expected to open."""
        entry = Advance(seq, owner, cost, kind=kind, expected=cost, is_leased=is_leased)
        self._add(entry)
        self._advances[owner] = entry

    def reserve(self, seq: int, owner: Owner, cost: int) -> None:
        """Reserve for an object that was opened; the cost is taken out of its owner's advance, if there is one."""
        if advance := self._advances.get(owner):
            self.total -= advance.reserved
            advance.is_leased = False
            advance.opened += cost
            advance.price()
            self.total += advance.reserved
        self._add(Reservation(seq, owner, cost))

    def _add(self, entry: Reservation) -> None:
        self._entries.setdefault(entry.owner, []).append(entry)
        self.total += entry.reserved

    def forget(self, owner: Owner) -> None:
        """End all reservations of an owner that left the worker. Those of others are not touched."""
        self._advances.pop(owner, None)
        self.total -= sum(entry.reserved for entry in self._entries.pop(owner, ()))

    def report(self, as_of_seq: int, interval_s: float, settle_s: float, newcomers: NewcomerCosts) -> None:
        """Age the reservations by a report, end those that the reports show by now, and price the advances again.

        Args:
            as_of_seq: The last log entry that the agent had acted on.
            interval_s: Length of the report's interval, in seconds.
            settle_s: Seconds of reports after which the reports show what was reserved.
            newcomers: Learns what new peers open, and knows what they are expected to.
        """
        if not self._entries:
            return
        for entry in self:
            entry.grow_older(interval_s if entry.seq <= as_of_seq else interval_s * UNSEEN_WEIGHT)
        for (room, _), advance in self._advances.items():
            if advance.age_s >= (OBSERVED_AFTER_S if advance.opened else settle_s):
                newcomers.observe(room, advance.kind, advance.opened, previous=advance.observed)
                advance.observed = advance.opened
            advance.expected = newcomers.expected(room, advance.kind)
            advance.price()
        self._advances = {owner: entry for owner, entry in self._advances.items() if entry.age_s < settle_s}
        self._end_older(settle_s)

    def _end_older(self, age_s: float) -> None:
        """End the reservations of this age, and compute the sum of the others again."""
        kept: dict[Owner, list[Reservation]] = {}
        for entry in self:
            if entry.age_s < age_s:
                kept.setdefault(entry.owner, []).append(entry)
        self._entries = kept
        self.total = sum(entry.reserved for entry in self) + sum(self._holds.values())
