"""Reservations that should have ended: they are reported, so that an audit sees what leaks. Pure.

A decision is in the log, or was refused, within seconds. Everything else that is reserved ends by load reports, after
``settle_s`` seconds of them or four times as long if the agent is behind, but for a place that was granted ahead: that
stays reserved as long as its peer is there.
"""

from __future__ import annotations

from heapq import nsmallest

from mafalda.allocator.core.fleet.candidates import WorkerView
from mafalda.allocator.core.fleet.fleet import FleetView, Hold
from mafalda.allocator.core.fleet.reservations import UNSEEN_WEIGHT, Advance, Reservation
from mafalda.contract.messages.allocator_report import LateReservation

#: A decision is late when it is not in the log after so long; the bus gives up an append after 15 s.
DECISION_LATE_S = 20.0
#: Anything else is late so many seconds after it must have ended.
_MARGIN_S = 10.0
#: At most so many are reported.
_MOST = 32


def late_reservations(fleet: FleetView, now: float) -> list[LateReservation]:
    """The oldest reservations that should have ended by now.

    Looks at all of them, so not for each entry. What it sees for the first time begins to count then.
    """
    found = [_of_decision(fleet, hold, now) for hold in fleet.holds.values() if hold.since_s <= now - DECISION_LATE_S]
    ends_s = fleet.config.settle_s / UNSEEN_WEIGHT + _MARGIN_S
    for worker in fleet.workers.values():
        if worker.server.silent:
            continue  # nothing ends before its next report
        for entry in worker.reservations:
            if entry.seen_s is None:
                entry.seen_s = now
            elif entry.seen_s <= now - ends_s and not _is_granted_ahead(worker, entry):
                found.append(_of_entry(worker, entry, now - entry.seen_s))
    return nsmallest(_MOST, found, key=lambda it: -it.age_s)


def _is_granted_ahead(worker: WorkerView, entry: Reservation) -> bool:
    return isinstance(entry, Advance) and entry.is_leased and entry.owner in worker.state.peers


def _of_decision(fleet: FleetView, hold: Hold, now: float) -> LateReservation:
    place, cost = hold.costs[0]
    return LateReservation(
        kind="decision",
        server=place.server,
        worker=place.worker,
        cost_ratio=cost / fleet.config.micro(1),
        age_s=now - hold.since_s,
        room=hold.room,
        peer=hold.peer,
    )


def _of_entry(worker: WorkerView, entry: Reservation, age_s: float) -> LateReservation:
    room, peer = entry.owner
    return LateReservation(
        kind="advance" if isinstance(entry, Advance) else "object",
        server=worker.place.server,
        worker=worker.place.worker,
        cost_ratio=entry.reserved / 1_000_000,
        age_s=age_s,
        room=room,
        peer=peer or None,
        seq=entry.seq,
    )
