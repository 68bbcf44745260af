"""Workers and servers as an allocator sees them, and orders over them that are kept, not computed.

A decision must not look at 16,000 workers, so whatever changes a worker moves it in each order that
a policy asked for; a decision is then a bisection. Pure. What does not belong here: what makes a
worker unfit (``filters``), what makes it good (``scores``), when things change (``view``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedList

from mafalda.allocator.core.state.reservations import Ledger
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import WorkerState

WorkerKey = tuple[str, str]  # server, worker


@dataclass(slots=True, eq=False)
class ServerView:
    """One server in its latest incarnation, with what it last said of itself."""

    server: str
    incarnation: str
    region: str | None
    heard_s: float
    up: bool = True
    draining: bool = False  # says the log
    says_draining: bool = False  # says its report
    seen_starting: bool = False
    reported: bool = False
    silent: bool = False
    cpu_ratio: float = 0.0
    memory_ratio: float = 0.0
    event_loop_lag_s: float = 0.0
    ports_left: int | None = None
    workers: dict[str, WorkerView] = field(default_factory=dict)
    used: int = 0  # workers in use
    obstacle: str | None = None


@dataclass(slots=True, eq=False)
class WorkerView:
    """One living worker. Loads are in millionths of a core.

    ``load`` is what it is held to carry: what was measured, but at least what its peers may do at
    any moment, plus what is reserved. ``obstacle`` is why it cannot be taken at all, whoever asks.
    """

    place: Place
    server: ServerView
    state: WorkerState
    ledger: Ledger = field(default_factory=Ledger)
    measured: int = 0
    channel_latency_s: float = 0.0
    load: int = 0
    used: bool = False
    obstacle: str | None = None

    @property
    def key(self) -> WorkerKey:
        return self.place.server, self.place.worker

    @property
    def headcount(self) -> int:
        """Its peers, with those whose placement is under way."""
        return len(self.state.peers) + self.ledger.held


Rule = Callable[[WorkerView], tuple[Hashable, int, int]]


class Order:
    """Workers without an obstacle, sorted, in parts.

    A rule gives for each worker its part and two numbers to sort by; equals are sorted by name.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._parts: dict[Hashable, Any] = {}
        self._entries: dict[WorkerKey, tuple[Hashable, tuple[int, int, WorkerKey]]] = {}

    def update(self, worker: WorkerView) -> None:
        """Move a worker to where it belongs now."""
        if worker.obstacle is not None:
            self.discard(worker)
            return
        part, first, second = self._rule(worker)
        key = worker.key
        new = (part, (first, second, key))
        old = self._entries.get(key)
        if old == new:
            return
        if old:
            self._parts[old[0]].remove(old[1])
        self._entries[key] = new
        self._part(part).add(new[1])

    def discard(self, worker: WorkerView) -> None:
        """Take a worker out."""
        if old := self._entries.pop(worker.key, None):
            self._parts[old[0]].remove(old[1])

    def part_of(self, worker: WorkerView) -> Hashable | None:
        """The part that a worker is in, if it is in any."""
        entry = self._entries.get(worker.key)
        return entry[0] if entry else None

    def size(self, part: Hashable) -> int:
        """How many workers are in a part."""
        return len(self._part(part))

    def parts(self) -> list[Hashable]:
        """The parts that there have been, in a fixed order."""
        return sorted(self._parts, key=repr)

    def count_up_to(self, part: Hashable, first: int) -> int:
        """How many workers of a part have a first number of at most ``first``."""
        return int(self._part(part).bisect_left((first + 1,)))

    def at(self, part: Hashable, index: int) -> WorkerKey:
        """The worker at a position of a part."""
        key: WorkerKey = self._part(part)[index][2]
        return key

    def down(self, part: Hashable, end: int, limit: int) -> Iterator[WorkerKey]:
        """At most ``limit`` workers just before position ``end``, the last first."""
        for index in range(end - 1, max(end - 1 - limit, -1), -1):
            yield self.at(part, index)

    def up(self, part: Hashable, start: int, limit: int) -> Iterator[WorkerKey]:
        """At most ``limit`` workers from position ``start``, the first first."""
        for index in range(start, min(start + limit, self.size(part))):
            yield self.at(part, index)

    def _part(self, part: Hashable) -> Any:
        found = self._parts.get(part)
        if found is None:
            found = self._parts[part] = SortedList()
        return found
