"""Which worker: policies by name. Each reads the same view, bisects, and says why. Pure.

``pack`` (the default): the busiest worker that stays below the limit, first among those that have
the room, then those in use, then a fresh worker, then a fresh server. ``region``: the same, first
within the peer's region. ``spread``: the least loaded, then the one with the fewest peers.
``two-choices``: the less loaded of two drawn at random, which a herd of allocators cannot herd.
What does not belong here: whether a placement is due (``decide``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from mafalda.allocator.core.placement import filters, scores
from mafalda.allocator.core.placement.trace import Choice, Examined, Wanted
from mafalda.allocator.core.state.candidates import Order, WorkerView
from mafalda.allocator.core.state.fleet import Fleet


class Dice(Protocol):
    """The randomness that a policy may ask for; ``random.Random`` is one."""

    def randrange(self, stop: int, /) -> int: ...


Policy = Callable[[Fleet, Wanted, Dice], Choice]


def pack(fleet: Fleet, wanted: Wanted, _: Dice) -> Choice:
    """The busiest below the limit: rooms stay together, idle servers stay idle."""
    examined = Examined(fleet, wanted, packs=True)
    order = fleet.order(scores.packing)
    if not _in_room(examined, wanted.places):
        _packed(examined, order, scores.PACKING_PARTS)
    for part in scores.PACKING_PARTS:
        _count_packed(examined, order, part, part)
    return examined.choice("pack", "the busiest below the limit, those that have the room first")


def region(fleet: Fleet, wanted: Wanted, _: Dice) -> Choice:
    """As ``pack``, in the peer's region if possible, else anywhere. No region: anywhere."""
    if wanted.region is None:
        return pack(fleet, wanted, _)
    examined = Examined(fleet, wanted, packs=True)
    order = fleet.order(scores.packing_by_region)
    home = [(wanted.region, part) for part in scores.PACKING_PARTS]
    elsewhere = [part for part in _by_rank(order.parts()) if part not in home]
    near = [worker for worker in wanted.places if worker.server.region == wanted.region]
    far = [worker for worker in wanted.places if worker.server.region != wanted.region]
    if not _in_room(examined, near) and not _packed(examined, order, home) and not _in_room(examined, far):
        _packed(examined, order, elsewhere)
    for region_part in home:
        _count_packed(examined, order, region_part, region_part[1])
    for region_part in elsewhere:
        _count(examined, order, region_part, filters.OTHER_REGION)
    return examined.choice("region", f"the busiest below the limit, those in {wanted.region} first")


def spread(fleet: Fleet, wanted: Wanted, _: Dice) -> Choice:
    """The least loaded (in steps of 5 % of a core), and of equals the one with the fewest peers."""
    examined = Examined(fleet, wanted)
    order, exact = fleet.order(scores.spreading), fleet.order(scores.loads)
    for candidates in (order, exact):
        first = next((fleet.workers[key] for key in candidates.up(scores.ALL, 0, 1)), None)
        if first and examined.fits(first):
            examined.take(first)
            break
    for key in order.up(scores.ALL, 0, examined.room_left):
        worker = fleet.workers[key]
        examined.pass_over(worker, _why_not(examined, worker, filters.BUSIER))
    _count(examined, exact, scores.ALL, filters.BUSIER)
    return examined.choice("spread", "the least loaded, then the fewest peers")


def two_choices(fleet: Fleet, wanted: Wanted, dice: Dice) -> Choice:
    """The less loaded of two fit ones drawn at random."""
    examined = Examined(fleet, wanted)
    order = fleet.order(scores.loads)
    if fit := order.count_up_to(scores.ALL, examined.limit):
        drawn = sorted((dice.randrange(fit), dice.randrange(fit)))
        first, second = (fleet.workers[order.at(scores.ALL, index)] for index in drawn)
        examined.take(first)
        examined.pass_over(second, filters.BUSIER)
    _count(examined, order, scores.ALL, filters.NOT_DRAWN)
    return examined.choice("two-choices", "the less loaded of two drawn")


#: Of the workers above the limit, so many are named: those that missed it by least.
_NEAR_MISSES = 3

#: By the name that ``--policy`` takes.
POLICIES: dict[str, Policy] = {"pack": pack, "spread": spread, "two-choices": two_choices, "region": region}


def _in_room(examined: Examined, places: Sequence[WorkerView]) -> bool:
    """Take the busiest fit worker among those that have the room."""
    for worker in sorted(places, key=lambda worker: (-worker.load, worker.key)):
        if examined.taken is None and examined.fits(worker):
            examined.take(worker)
        else:
            examined.pass_over(worker, worker.obstacle or _why_not(examined, worker, filters.LESS_BUSY))
    return examined.taken is not None


def _packed(examined: Examined, order: Order, parts: Sequence[Hashable]) -> bool:
    """Take the busiest fit worker in use, or the quietest fresh one, of the first part that has a fit one."""
    workers = examined.fleet.workers
    for part in parts:
        end = order.count_up_to(part, examined.limit)
        for key in order.up(part, end, _NEAR_MISSES):
            examined.pass_over(workers[key], filters.ABOVE_WATERMARK)
        if end and _is_used(part):
            examined.take(workers[order.at(part, end - 1)])
            for key in order.down(part, end - 1, examined.room_left):
                examined.pass_over(workers[key], filters.LESS_BUSY)
            return True
        if end:
            examined.take(workers[order.at(part, 0)])
            return True
    return False


def _is_used(part: Hashable) -> bool:
    return scores.USED in (part if isinstance(part, tuple) else (part,))


def _why_not(examined: Examined, worker: WorkerView, otherwise: str) -> str:
    return otherwise if examined.fits(worker) else filters.ABOVE_WATERMARK


def _by_rank(parts: Sequence[Hashable]) -> list[tuple[str, str]]:
    """Parts of all regions: first those in use, of each region in turn."""
    known = [part for part in parts if isinstance(part, tuple)]
    return sorted(known, key=lambda part: (scores.PACKING_PARTS.index(part[1]), part[0]))


def _count_packed(examined: Examined, order: Order, part: Hashable, kind: str) -> None:
    """Count a part: workers in use were less busy, or have not the room; fresh ones were not needed."""
    if kind != scores.USED:
        _count(examined, order, part, filters.FRESH_NOT_NEEDED)
        return
    taken, places = examined.taken, examined.wanted.places
    same_room = [worker for worker in places if order.part_of(worker) == part and examined.fits(worker)]
    if taken not in same_room:
        _count(examined, order, part, filters.LESS_BUSY)
        return
    _count(examined, order, part, filters.ROOM_ELSEWHERE, apart=len(same_room) - 1)
    examined.count(filters.LESS_BUSY, len(same_room) - 1)


def _count(examined: Examined, order: Order, part: Hashable, reason: str, *, apart: int = 0) -> None:
    """Count a part but for the one taken and those counted ``apart``: above the limit, or for the reason given."""
    fit = order.count_up_to(part, examined.limit)
    taken = examined.taken is not None and order.part_of(examined.taken) == part
    examined.count(filters.ABOVE_WATERMARK, order.size(part) - fit)
    examined.count(reason, fit - taken - apart)
