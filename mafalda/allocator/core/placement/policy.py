"""Choose a worker for a peer: the policies, by name. Each bisects the same orders and explains its choice. Pure.

- ``pack`` (the default): the busiest worker that stays below the limit, first among those that have the room, then
  those in use, then a fresh worker, then a fresh server.
- ``region``: the same, first within the peer's region.
- ``spread``: the least loaded worker, then the one with the fewest peers.
- ``two-choices``: the less loaded of two workers drawn at random, so that several allocators do not choose the same
  one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from mafalda.allocator.core.fleet.candidates import Order, WorkerView
from mafalda.allocator.core.fleet.fleet import FleetView
from mafalda.allocator.core.placement import outcomes, scores
from mafalda.allocator.core.placement.trace import Choice, PlacementRequest, PlacementTrace


class Rng(Protocol):
    """The random numbers that a policy may use; ``random.Random`` is one."""

    def randrange(self, stop: int, /) -> int: ...


Policy = Callable[[FleetView, PlacementRequest, Rng], Choice]


def choose(policy: str, fleet: FleetView, request: PlacementRequest, rng: Rng) -> Choice:
    """Choose by a policy, but a preferred worker first: of those that can take the peer, the least loaded."""
    trace = PlacementTrace(fleet, request)
    fit = [worker for worker in request.preferred if trace.fits(worker)]
    if not fit:
        return POLICIES[policy](fleet, request, rng)
    trace.choose(min(fit, key=lambda worker: (worker.load, worker.headcount, worker.key)))
    _count(trace, fleet.order(scores.loads), scores.ALL, outcomes.NOT_PREFERRED)
    return trace.choice(policy, request.why)


def pack(fleet: FleetView, request: PlacementRequest, _: Rng) -> Choice:
    """Choose the busiest below the limit: rooms stay together, idle servers stay idle."""
    trace = PlacementTrace(fleet, request, packs=True)
    order = fleet.order(scores.packing)
    if not _choose_in_room(trace, request.in_room):
        _choose_packed(trace, order, scores.PACKING_PARTS)
    for part in scores.PACKING_PARTS:
        _count_packed(trace, order, part, part)
    return trace.choice("pack", "the busiest below the limit, those that have the room first")


def region(fleet: FleetView, request: PlacementRequest, _: Rng) -> Choice:
    """As ``pack``, in the peer's region if possible. Without a region, as ``pack``."""
    if request.region is None:
        return pack(fleet, request, _)
    trace = PlacementTrace(fleet, request, packs=True)
    order = fleet.order(scores.packing_by_region)
    in_region = [(request.region, part) for part in scores.PACKING_PARTS]
    elsewhere = [part for part in _by_rank(order.parts()) if part not in in_region]
    near = [worker for worker in request.in_room if worker.server.region == request.region]
    far = [worker for worker in request.in_room if worker.server.region != request.region]
    if (
        not _choose_in_room(trace, near)
        and not _choose_packed(trace, order, in_region)
        and not _choose_in_room(trace, far)
    ):
        _choose_packed(trace, order, elsewhere)
    for region_part in in_region:
        _count_packed(trace, order, region_part, region_part[1])
    for region_part in elsewhere:
        _count(trace, order, region_part, outcomes.OTHER_REGION)
    return trace.choice("region", f"the busiest below the limit, those in {request.region} first")


def spread(fleet: FleetView, request: PlacementRequest, rng: Rng) -> Choice:
    """Choose the least loaded (in steps of 5 % of a core), of equals the one with the fewest peers, of those the first.

    While other allocators are at work it draws among those: in the same moment all would choose the same one.
    """
    trace = PlacementTrace(fleet, request)
    order, exact = fleet.order(scores.spreading), fleet.order(scores.loads)
    for candidates in (order, exact):
        if equals := candidates.count_first_equals(scores.ALL):
            index = rng.randrange(equals) if fleet.is_shared else 0
            first = fleet.workers[candidates.at(scores.ALL, index)]
            if trace.fits(first):
                trace.choose(first)
                break
    for key in order.up(scores.ALL, 0, trace.names_left):
        worker = fleet.workers[key]
        trace.pass_over(worker, _why_not(trace, worker, outcomes.BUSIER))
    _count(trace, exact, scores.ALL, outcomes.BUSIER)
    return trace.choice("spread", "the least loaded, then the fewest peers")


def two_choices(fleet: FleetView, request: PlacementRequest, rng: Rng) -> Choice:
    """Choose the less loaded of two feasible workers drawn at random."""
    trace = PlacementTrace(fleet, request)
    order = fleet.order(scores.loads)
    if fit := order.count_up_to(scores.ALL, trace.limit):
        drawn = sorted((rng.randrange(fit), rng.randrange(fit)))
        first, second = (fleet.workers[order.at(scores.ALL, index)] for index in drawn)
        trace.choose(first)
        trace.pass_over(second, outcomes.BUSIER)
    _count(trace, order, scores.ALL, outcomes.NOT_DRAWN)
    return trace.choice("two-choices", "the less loaded of two drawn")


#: The explanation names so many of the workers above the limit: the least loaded of them.
_NEAR_MISSES = 3

#: By the name that ``--policy`` takes.
POLICIES: dict[str, Policy] = {"pack": pack, "spread": spread, "two-choices": two_choices, "region": region}


def _choose_in_room(trace: PlacementTrace, workers: Sequence[WorkerView]) -> bool:
    """Choose the busiest feasible worker among those that have the room."""
    for worker in sorted(workers, key=lambda worker: (-worker.load, worker.key)):
        if trace.chosen is None and trace.fits(worker):
            trace.choose(worker)
        else:
            trace.pass_over(worker, worker.obstacle or _why_not(trace, worker, outcomes.LESS_BUSY))
    return trace.chosen is not None


def _choose_packed(trace: PlacementTrace, order: Order, parts: Sequence[Hashable]) -> bool:
    """Choose the busiest worker in use, or the least loaded fresh one, of the first part that has a feasible one."""
    workers = trace.fleet.workers
    for part in parts:
        end = order.count_up_to(part, trace.limit)
        for key in order.up(part, end, _NEAR_MISSES):
            trace.pass_over(workers[key], outcomes.ABOVE_WATERMARK)
        if end and _is_used(part):
            trace.choose(workers[order.at(part, end - 1)])
            for key in order.down(part, end - 1, trace.names_left):
                trace.pass_over(workers[key], outcomes.LESS_BUSY)
            return True
        if end:
            trace.choose(workers[order.at(part, 0)])
            return True
    return False


def _is_used(part: Hashable) -> bool:
    return scores.USED in (part if isinstance(part, tuple) else (part,))


def _why_not(trace: PlacementTrace, worker: WorkerView, otherwise: str) -> str:
    return otherwise if trace.fits(worker) else outcomes.ABOVE_WATERMARK


def _by_rank(parts: Sequence[Hashable]) -> list[tuple[str, str]]:
    """The parts of all regions, by part and then by region."""
    known = [part for part in parts if isinstance(part, tuple)]
    return sorted(known, key=lambda part: (scores.PACKING_PARTS.index(part[1]), part[0]))


def _count_packed(trace: PlacementTrace, order: Order, part: Hashable, kind: str) -> None:
    """Count a part: workers in use were less busy or do not have the room; fresh ones were not needed."""
    if kind != scores.USED:
        _count(trace, order, part, outcomes.FRESH_NOT_NEEDED)
        return
    chosen, in_room = trace.chosen, trace.request.in_room
    same_room = [worker for worker in in_room if order.part_of(worker) == part and trace.fits(worker)]
    if chosen not in same_room:
        _count(trace, order, part, outcomes.LESS_BUSY)
        return
    _count(trace, order, part, outcomes.ROOM_ELSEWHERE, apart=len(same_room) - 1)
    trace.count(outcomes.LESS_BUSY, len(same_room) - 1)


def _count(trace: PlacementTrace, order: Order, part: Hashable, reason: str, *, apart: int = 0) -> None:
    """Count the workers of a part, without the chosen one and ``apart`` others: above the limit, or for ``reason``."""
    fit = order.count_up_to(part, trace.limit)
    chosen = trace.chosen is not None and order.part_of(trace.chosen) == part
    trace.count(outcomes.ABOVE_WATERMARK, order.size(part) - fit)
    trace.count(reason, fit - chosen - apart)
