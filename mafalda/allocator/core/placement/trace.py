"""What one decision asks for, what it looked at, and the explanation that comes of it. Pure.

What does not belong here: the order in which candidates are looked at (``policy``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mafalda.allocator.core.placement import filters, scores
from mafalda.allocator.core.state.candidates import WorkerKey, WorkerView
from mafalda.allocator.core.state.fleet import Fleet
from mafalda.contract.messages.commands import Candidate, Explanation


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place for a peer. ``cost`` and ``limit`` in millionths of a core; ``places`` have the room already."""

    places: Sequence[WorkerView]
    region: str | None
    cost: int
    limit: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The worker, or ``None``, and why."""

    worker: WorkerView | None
    explanation: Explanation


@dataclass(slots=True)
class Examined:
    """Collects the candidates of one decision, each once."""

    fleet: Fleet
    wanted: Wanted
    packs: bool = False
    taken: WorkerView | None = None
    _named: dict[WorkerKey, tuple[WorkerView, str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    @property
    def limit(self) -> int:
        """The greatest load, in thousandths, to which the cost can still be added."""
        return (self.wanted.limit - self.wanted.cost) // 1_000

    @property
    def room_left(self) -> int:
        """How many more candidates will be named."""
        return max(self.fleet.config.explained_candidates - len(self._named), 0)

    def fits(self, worker: WorkerView) -> bool:
        """Whether a worker may be taken, and stays below the limit."""
        return worker.obstacle is None and scores.thousandths(worker.load) <= self.limit

    def take(self, worker: WorkerView) -> None:
        """This one it is."""
        self.taken = worker
        self._named[worker.key] = (worker, filters.CHOSEN)

    def pass_over(self, worker: WorkerView, reason: str) -> None:
        """Not this one."""
        if self.room_left:
            self._named.setdefault(worker.key, (worker, reason))

    def count(self, reason: str, workers: int) -> None:
        """So many were not taken for this reason, named or not."""
        if workers > 0:
            self._counts[reason] += workers

    def choice(self, policy: str, rule: str) -> Choice:
        """Write it all down."""
        config, workers = self.fleet.config, self.fleet.workers
        if len(workers) <= config.explained_candidates:
            for key in sorted(workers):
                if reason := workers[key].obstacle:
                    self.pass_over(workers[key], reason)
        counts = self.fleet.obstacles + self._counts
        explanation = Explanation(
            policy=policy,
            summary=self._summary(rule),
            candidates=[self._candidate(worker, outcome) for worker, outcome in self._named.values()],
            passed_over={reason: counts[reason] for reason in sorted(counts)},
        )
        return Choice(self.taken, explanation)

    def _candidate(self, worker: WorkerView, outcome: str) -> Candidate:
        return Candidate(
            server=worker.place.server,
            worker=worker.place.worker,
            outcome=outcome,
            load=round(worker.load / 1_000_000, 3),
            score=self._score(worker),
        )

    def _score(self, worker: WorkerView) -> float:
        if self.packs:
            return scores.pack_score(worker, has_room=worker in self.wanted.places)
        return scores.free_score(worker)

    def _summary(self, rule: str) -> str:
        limit, cost = self.wanted.limit / 10_000, self.wanted.cost / 10_000
        terms = f"{cost:.3g} % of a core is expected, the limit is {limit:.3g} %"
        of = f"of {len(self.fleet.workers)} workers, {rule}; {terms}"
        if self.taken is None:
            return f"none {of}"
        place, load = self.taken.place, self.taken.load / 10_000
        return f"{place.server}/{place.worker} at {load:.3g} %, {of}"
