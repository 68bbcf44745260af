"""A request for a worker, the trace of the candidates of one decision, and the explanation made of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mafalda.allocator.core.fleet.candidates import WorkerKey, WorkerView
from mafalda.allocator.core.fleet.fleet import FleetView
from mafalda.allocator.core.placement import outcomes, scores
from mafalda.contract.messages.commands import Candidate, Explanation


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """A request for a worker for one peer.

    ``in_room`` are workers that have the room already, ``preferred`` those on which the peer is placed if one of them
    can take it, whatever the policy prefers, because of ``why``. ``cost`` is the expected cost of the peer and
    ``limit`` the load that must not be exceeded with it, in millionths of a core.
    """

    in_room: Sequence[WorkerView]
    region: str | None
    cost: int
    limit: int
    preferred: Sequence[WorkerView] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen worker, if there is one, and the explanation."""

    worker: WorkerView | None
    explanation: Explanation


@dataclass(slots=True)
class PlacementTrace:
    """Collects the candidates of one decision and their outcomes, each candidate once.

    Args:
        fleet: All workers.
        request: What is to be placed.
        packs: Whether the policy prefers busy workers, which decides how scores are computed.
    """

    fleet: FleetView
    request: PlacementRequest
    packs: bool = False
    chosen: WorkerView | None = None
    _named: dict[WorkerKey, tuple[WorkerView, str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    @property
    def limit(self) -> int:
        """The greatest load, in thousandths of a core, to which the cost can be added."""
        return (self.request.limit - self.request.cost) // 1_000

    @property
    def names_left(self) -> int:
        """How many more candidates can be named."""
        return max(self.fleet.config.explained_candidates - len(self._named), 0)

    def fits(self, worker: WorkerView) -> bool:
        """Whether a worker has no obstacle and stays below the limit."""
        return worker.obstacle is None and scores.thousandths(worker.load) <= self.limit

    def choose(self, worker: WorkerView) -> None:
        """Choose a worker."""
        self.chosen = worker
        self._named[worker.key] = (worker, outcomes.CHOSEN)

    def pass_over(self, worker: WorkerView, reason: str) -> None:
        """Name a worker that was not chosen, with the reason."""
        if self.names_left:
            self._named.setdefault(worker.key, (worker, reason))

    def count(self, reason: str, workers: int) -> None:
        """Count workers that were not chosen for a reason, named or not."""
        if workers > 0:
            self._counts[reason] += workers

    def choice(self, policy: str, rule: str) -> Choice:
        """The chosen worker and the explanation.

        Args:
            policy: Name of the policy.
            rule: What the policy prefers, for the explanation's summary.
        """
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
        return Choice(self.chosen, explanation)

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
            return scores.pack_score(worker, has_room=worker in self.request.in_room)
        return scores.free_score(worker)

    def _summary(self, rule: str) -> str:
        limit, cost = self.request.limit / 10_000, self.request.cost / 10_000
        terms = f"{cost:.3g} % of a core is expected, the limit is {limit:.3g} %"
        of = f"of {len(self.fleet.workers)} workers, {rule}; {terms}"
        if self.chosen is None:
            return f"none {of}"
        place, load = self.chosen.place, self.chosen.load / 10_000
        return f"{place.server}/{place.worker} at {load:.3g} %, {of}"
