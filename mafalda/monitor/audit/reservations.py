"""Reservations that leak: what allocators keep reserved although nothing is going to end it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mafalda.contract.messages.allocator_report import AllocatorReport, LateReservation
from mafalda.monitor.audit.finding import Finding, Subject
from mafalda.projection.state import State


def leaked_reservations(state: State, reports: Iterable[AllocatorReport], deadline_s: float) -> Iterator[Finding]:
    """What allocators have reserved for too long, but for places that are granted ahead and that the log has.

    Args:
        state: The log's.
        reports: The last report of each allocator.
        deadline_s: What has been reserved for longer than it should be, and than this, is a leak; seconds.
    """
    for report in reports:
        for late in report.late_reservations:
            if late.age_s > deadline_s and not _is_granted_ahead(state, late):
                whom = f"{late.room}/{late.peer}" if late.peer else late.room
                what = (
                    f"allocator {report.allocator} has reserved {late.cost_ratio:.2%} of a core on {late.worker} for "
                    f"{whom} ({late.kind}) for {late.age_s:.0f} s"
                )
                at = Subject(late.room, late.peer, late.server, late.worker, report.allocator)
                yield Finding("reservation-leaked", what, at, late.seq)


def _is_granted_ahead(state: State, late: LateReservation) -> bool:
    """Whether it is for a peer whose place was granted ahead and that is still there."""
    room = state.rooms.get(late.room)
    peer = room.peers.get(late.peer or "") if room else None
    if late.kind != "advance" or peer is None or peer.lease_s is None:
        return False
    return (peer.place.server, peer.place.worker) == (late.server, late.worker)
