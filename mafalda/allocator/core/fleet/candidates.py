"""Servers and workers as candidates for a placement, and sorted orders of the workers. Pure.

A decision must not scan 16,000 workers. So each change of a worker moves it in every order that a policy uses, and a
decision is a bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedList

from mafalda.allocator.core.fleet.reservations import Reservations
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import WorkerState

WorkerKey = tuple[str, str]  # server, worker


@dataclass(slots=True, eq=False)
class ServerView:
    """One server in its latest incarnation, with the figures of its last load report."""

    server: str
    incarnation: str
    region: str | None
    last_report_s: float  # or, before the first report, when the server became known
    up: bool = True
    draining: bool = False  # by the log
    reports_draining: bool = False  # by its own report
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

    ``load`` is its expected load: the measured load and the reservations, but at least a minimum for each peer.
    ``settled_load`` is the same without the reservations: what is left when they have ended.
    ``obstacle`` is the reason why no peer can be placed on it, if there is one.
    """

    place: Place
    server: ServerView
    state: WorkerState
    reservations: Reservations = field(default_factory=Reservations)
    measured: int = 0
    channel_latency_s: float = 0.0
    unresponsive: bool = False
    load: int = 0
    settled_load: int = 0
    used: bool = False
    obstacle: str | None = None

    @property
    def key(self) -> WorkerKey:
        return self.place.server, self.place.worker

    @property
    def headcount(self) -> int:
        """Its peers, with those whose placement is not in the log yet."""
        return len(self.state.peers) + self.reservations.held_peers

    @property
    def audience(self) -> int:
        """How many of ``headcount`` are audience."""
        return len(self.state.audience) + self.reservations.held_audience


Rule = Callable[[WorkerView], tuple[Hashable, int, int]]


class Order:
    """Workers without an obstacle, sorted within parts.

    Args:
        rule: Gives the part of a worker and the two numbers to sort it by; equal workers are sorted by name.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._parts: dict[Hashable, Any] = {}
        self._entries: dict[WorkerKey, tuple[Hashable, tuple[int, int, WorkerKey]]] = {}

    def update(self, worker: WorkerView) -> None:
        """Move a worker to its present position."""
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
        """Remove a worker."""
        if old := self._entries.pop(worker.key, None):
            self._parts[old[0]].remove(old[1])

    def part_of(self, worker: WorkerView) -> Hashable | None:
        """The part of a worker, if it is in the order."""
        entry = self._entries.get(worker.key)
        return entry[0] if entry else None

    def size(self, part: Hashable) -> int:
        """How many workers are in a part."""
        return len(self._part(part))

    def parts(self) -> list[Hashable]:
        """All parts that have ever had a worker, in a fixed order."""
        return sorted(self._parts, key=repr)

    def count_up_to(self, part: Hashable, first: int) -> int:
        """How many workers of a part have a first number of at most ``first``."""
        return int(self._part(part).bisect_left((first + 1,)))

    def count_first_equals(self, part: Hashable) -> int:
        """How many workers of a part have the same two numbers as its first one."""
        found = self._part(part)
        return int(found.bisect_left((found[0][0], found[0][1] + 1))) if found else 0

    def at(self, part: Hashable, index: int) -> WorkerKey:
        """The worker at a position of a part."""
        key: WorkerKey = self._part(part)[index][2]
        return key

    def down(self, part: Hashable, end: int, limit: int) -> Iterator[WorkerKey]:
        """At most ``limit`` workers below position ``end``, in descending order."""
        for index in range(end - 1, max(end - 1 - limit, -1), -1):
            yield self.at(part, index)

    def up(self, part: Hashable, start: int, limit: int) -> Iterator[WorkerKey]:
        """At most ``limit`` workers from position ``start``, in ascending order."""
        for index in range(start, min(start + limit, self.size(part))):
            yield self.at(part, index)

    def _part(self, part: Hashable) -> Any:
        found = self._parts.get(part)
        if found is None:
            found = self._parts[part] = SortedList()
        return found
