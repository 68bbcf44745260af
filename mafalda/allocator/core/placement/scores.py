"""How fit workers compare: for each policy the numbers to keep workers sorted by, and a score to show. Pure.

A greater score is better; the best is chosen. Loads are in millionths of a core inside, sorted by
the thousandth, so that a report which changes nothing moves nobody.
What does not belong here: which workers are compared (``policy``).
"""

from __future__ import annotations

from collections.abc import Hashable

from mafalda.allocator.core.state.candidates import WorkerView

#: Parts, best first for a policy that packs.
USED = "used"
FRESH = "fresh"  # idle, on a server in use
FRESH_SERVER = "fresh-server"  # idle, on an idle server
PACKING_PARTS = (USED, FRESH, FRESH_SERVER)

#: The one part of the orders that have but one.
ALL = "all"

#: Loads closer than this are equal to a policy that spreads: below it, a figure is noise.
SPREAD_STEP = 50_000
_THOUSANDTH = 1_000


def part_of(worker: WorkerView) -> str:
    """Where a worker stands in the order in which packing opens up new ones."""
    if worker.used:
        return USED
    return FRESH if worker.server.used else FRESH_SERVER


def thousandths(load: int) -> int:
    """A load in thousandths of a core, rounded up: what looks free is free."""
    return -(-load // _THOUSANDTH)


def packing(worker: WorkerView) -> tuple[Hashable, int, int]:
    """By part, then by load."""
    return part_of(worker), thousandths(worker.load), 0


def packing_by_region(worker: WorkerView) -> tuple[Hashable, int, int]:
    """By region and part, then by load."""
    return (worker.server.region or "", part_of(worker)), thousandths(worker.load), 0


def loads(worker: WorkerView) -> tuple[Hashable, int, int]:
    """All in one part, by load."""
    return ALL, thousandths(worker.load), 0


def spreading(worker: WorkerView) -> tuple[Hashable, int, int]:
    """All in one part: by load in steps, then by how many peers there are (with decisions under way)."""
    return ALL, worker.load // SPREAD_STEP, worker.headcount


def pack_score(worker: WorkerView, *, has_room: bool) -> float:
    """3 and its load for a worker that has the room, 2 … in use, 1 … fresh, 0 … on a fresh server."""
    rank = 3 if has_room else 2 - PACKING_PARTS.index(part_of(worker))
    return round(rank + min(worker.load / 1_000_000, 0.999), 3)


def free_score(worker: WorkerView) -> float:
    """How much of a core is free."""
    return round(1 - worker.load / 1_000_000, 3)
