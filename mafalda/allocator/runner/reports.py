"""An allocator's reports to the others, and theirs to it: which of them are at work, and so whose each room is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet.late import late_reservations
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import Clock
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.allocator_report import AllocatorReport, AllocatorStatus, LateReservation
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput, BusUnavailable, MafaldaError, PermissionDenied

#: A process that ends waits no longer than this for its last report to be sent.
_LEAVE_TIMEOUT_S = 0.5
#: How often all reservations are looked at; 10,000 of them take some milliseconds.
_LATE_INTERVAL_S = 5.0

_log = structlog.get_logger(__name__)


class AllocatorReports:
    """Reports at intervals, and keeps ``View.owners`` up to date.

    Args:
        bus: Connected.
        config: The allocator's.
        clock: Of the allocator.
        view: Of the allocator; its ``owners`` are changed here.
        counters: Counted into.
        finished: How many decisions this allocator has finished since its start.
        on_change: Called when rooms have changed hands.
    """

    def __init__(
        self,
        bus: Bus,
        config: AllocatorConfig,
        clock: Clock,
        view: View,
        counters: Counter[str],
        finished: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._view = view
        self._counters = counters
        self._finished = finished
        self._on_change = on_change
        self._late: list[LateReservation] = []
        self._look_for_late_s = 0.0

    async def run(self) -> None:
        """Report until cancelled, and then that this allocator is leaving. Who has not reported is forgotten."""
        try:
            while True:
                await self._publish("working")
                before = self._clock.now()
                await self._clock.sleep(self._config.allocator_report_s)
                now = self._clock.now()
                if now - before > 2 * self._config.allocator_report_s:
                    self._view.owners.suspended(now)
                elif gone := self._view.owners.expire(now):
                    self._changed("allocator-silent", *gone)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._publish("leaving")

    async def take(self, reports: AsyncIterator[Delivery]) -> None:
        """Take in the reports of all allocators until cancelled. A new one is answered at once, so that it knows.

        A credential of an earlier version may not permit to read them: then this allocator takes all rooms for its own.
        """
        try:
            async for delivery in reports:
                await self._take(delivery)
        except PermissionDenied as error:
            _log.warning("rooms are not divided", action="reports_denied", reason=str(error))
            return
        raise BusUnavailable("the subscription to allocators' reports has ended")

    async def _take(self, delivery: Delivery) -> None:
        try:
            report = read_message(delivery.subject, delivery.data)[1].data
        except BadInput as error:
            self._counters["unreadable-report"] += 1
            _log.warning("unreadable-report", action="unreadable_report", reason=str(error))
            return
        if not isinstance(report, AllocatorReport) or report.allocator == self._view.allocator:
            return
        owners = self._view.owners
        if report.status == "leaving":
            if owners.leave(report.allocator):
                self._changed("allocator-left", report.allocator)
        elif owners.report(report.allocator, self._clock.now(), decided=report.decided):
            self._changed("allocator-new", report.allocator)
            await self._publish("working")

    def _changed(self, what: str, *allocators: str) -> None:
        self._counters[what] += len(allocators)
        others = len(self._view.owners.others)
        self._view.fleet.is_shared = others > 0
        _log.info(what, action=what.replace("-", "_"), allocators=list(allocators), others=others)
        self._on_change()

    async def _publish(self, status: AllocatorStatus) -> None:
        now = self._clock.now()
        if now >= self._look_for_late_s:
            self._late = late_reservations(self._view.fleet, now)
            self._look_for_late_s = now + _LATE_INTERVAL_S
        report = AllocatorReport(
            allocator=self._view.allocator,
            status=status,
            as_of_seq=self._view.seq,
            decided=self._finished(),
            late_reservations=self._late,
        )
        subject = subjects.allocator_report(report.allocator)
        try:
            await self._bus.publish(subject, compose(report, subject=subject, source=self._config.source))
        except MafaldaError as error:
            _log.warning("report-lost", action="report_lost", reason=str(error))
