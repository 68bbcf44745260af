"""How feasible workers compare: for each policy the numbers that workers are sorted by, and a score to show. Pure.

A greater score is better. Loads are in millionths of a core, but sorted by the thousandth, so that a report with a
negligible change moves no worker.
"""

from __future__ import annotations

from collections.abc import Hashable

from mafalda.allocator.core.fleet.candidates import WorkerView

#: Parts of an order, best first for a policy that packs.
USED = "used"
FRESH = "fresh"  # idle, on a server in use
FRESH_SERVER = "fresh-server"  # idle, on an idle server
PACKING_PARTS = (USED, FRESH, FRESH_SERVER)

#: The only part of an order that has one part.
ALL = "all"

#: Loads in the same step are equal to a policy that spreads: smaller differences are noise.
SPREAD_STEP = 50_000
_THOUSANDTH = 1_000


def part_of(worker: WorkerView) -> str:
    """The part of a worker: a policy that packs fills one part before it begins the next."""
    if worker.used:
        return USED
    return FRESH if worker.server.used else FRESH_SERVER


def thousandths(load: int) -> int:
    """A load in thousandths of a core, rounded up."""
    return -(-load // _THOUSANDTH)


def packing(worker: WorkerView) -> tuple[Hashable, int, int]:
    """Sort by part, then by load."""
    return part_of(worker), thousandths(worker.load), 0


def settled(worker: WorkerView) -> tuple[Hashable, int, int]:
    """Sort by the load that is left when the reservations have ended."""
    return ALL, thousandths(worker.settled_load), 0


def packing_by_region(worker: WorkerView) -> tuple[Hashable, int, int]:
    """Sort by region and part, then by load."""
    return (worker.server.region or "", part_of(worker)), thousandths(worker.load), 0


def loads(worker: WorkerView) -> tuple[Hashable, int, int]:
    """Sort by load."""
    return ALL, thousandths(worker.load), 0


def spreading(worker: WorkerView) -> tuple[Hashable, int, int]:
    """Sort by load in steps, then by the number of peers, with those whose placement is not in the log yet."""
    return ALL, worker.load // SPREAD_STEP, worker.headcount


def pack_score(worker: WorkerView, *, has_room: bool) -> float:
    """The load, plus 3 if the worker has the room, 2 if it is in use, 1 if it is fresh, 0 if its server is too."""
    rank = 3 if has_room else 2 - PACKING_PARTS.index(part_of(worker))
    return round(rank + min(worker.load / 1_000_000, 0.999), 3)


def free_score(worker: WorkerView) -> float:
    """The free part of a core."""
    return round(1 - worker.load / 1_000_000, 3)
