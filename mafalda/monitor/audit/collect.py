"""Collect what an audit needs, and audit: the log, the reports of agents and allocators, the agents' inventories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.messages.allocator_report import AllocatorReport
from mafalda.contract.messages.queries import QueryServer, ServerInventory
from mafalda.contract.reading import read_message
from mafalda.contract.subjects import ALL_ALLOCATOR_REPORTS, LOG_SUBJECTS, agent_request
from mafalda.errors import BadInput, MafaldaError, NotFound, PermissionDenied
from mafalda.monitor.audit.checks import Evidence, compare, overdue, pending
from mafalda.monitor.audit.finding import DEADLINE_S, Finding
from mafalda.monitor.audit.history import AuditedLog
from mafalda.monitor.audit.reservations import leaked_reservations
from mafalda.monitor.overview import read_loads
from mafalda.monitor.records import read_log
from mafalda.projection.state import State
from mafalda.session.requests import as_expected
from mafalda.snapshot.store import read_snapshot

_log = structlog.get_logger(__name__)

TRIES = 5
PAUSE_S = 0.5
#: Allocators report twice a second.
LISTEN_S = 0.6


@dataclass(frozen=True, slots=True)
class Audit:
    """The state as of an entry of the log, and what is wrong with it."""

    state: State
    findings: list[Finding]


async def inventory(bus: Bus, server: str, *, timeout_s: float = 5.0) -> ServerInventory:
    """Request the inventory of a server's workers from its agent.

    Raises:
        DeadlineExceeded: Its agent does not answer.
        MalformedMessage: Its agent answers something else.
        MafaldaError: The error that its agent answers.
    """
    subject = agent_request(server, QueryServer.action)
    request = compose(QueryServer(), subject=subject, source="/mafalda/operator")
    return as_expected((await bus.request(subject, request, timeout_s=timeout_s)).data, ServerInventory)


async def audit(
    bus: Bus,
    *,
    deadline_s: float = DEADLINE_S,
    tries: int = TRIES,
    pause_s: float = PAUSE_S,
    listen_s: float = LISTEN_S,
) -> Audit:
    """Audit the fleet.

    An object that is being opened or closed differs for a moment. So an audit with findings is repeated, and only what
    the last two have found is reported.

    Args:
        bus: Connected to the fleet's NATS.
        deadline_s: What has waited for longer is overdue; seconds.
        tries: How many times at most.
        pause_s: Seconds between them.
        listen_s: Seconds to wait at least for the reports of allocators.

    Raises:
        SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
        BusUnavailable: The log or the snapshots cannot be read.
    """
    async with _allocator_reports(bus) as reports:
        loop = asyncio.get_running_loop()
        listened_s = loop.time() + listen_s
        found = await _audit_log(bus, deadline_s)
        await asyncio.sleep(listened_s - loop.time())
        found = _with_leaks(found, reports, deadline_s)
        for _ in range(tries - 1):
            if not found.findings:
                break
            await asyncio.sleep(pause_s)
            known = {finding.key for finding in found.findings}
            found = _with_leaks(await _audit_log(bus, deadline_s), reports, deadline_s)
            found = Audit(found.state, [finding for finding in found.findings if finding.key in known])
    return found


@asynccontextmanager
async def _allocator_reports(bus: Bus) -> AsyncIterator[dict[str, AllocatorReport]]:
    """The last report of each allocator that reports while the block runs."""
    reports: dict[str, AllocatorReport] = {}

    async def take(deliveries: AsyncIterator[Delivery]) -> None:
        try:
            async for delivery in deliveries:
                with suppress(BadInput):
                    report = read_message(delivery.subject, delivery.data)[1].data
                    if isinstance(report, AllocatorReport):
                        reports[report.allocator] = report
        except PermissionDenied as error:  # a credential of an earlier version
            _log.warning("no allocator reports", action="reports_denied", reason=str(error))

    async with bus.listen(ALL_ALLOCATOR_REPORTS) as deliveries, background(take(deliveries), "allocator reports"):
        yield reports


def _with_leaks(audited: Audit, reports: dict[str, AllocatorReport], deadline_s: float) -> Audit:
    leaks = leaked_reservations(audited.state, reports.values(), deadline_s)
    return Audit(audited.state, [*audited.findings, *leaks])


async def _audit_log(bus: Bus, deadline_s: float) -> Audit:
    log = AuditedLog.begin(await read_snapshot(bus))
    async for entry in read_log(bus, *LOG_SUBJECTS, after_seq=log.state.seq):
        log.fold(entry)
    evidence = Evidence(await inventories(bus, log.state), await read_loads(bus))
    late = await _overdue(bus, pending(log, evidence.loads), deadline_s)
    return Audit(log.state, [*late, *compare(log, evidence)])


async def inventories(bus: Bus, state: State) -> dict[str, ServerInventory | MafaldaError]:
    """What the agent of each server that is up answers, or the error instead."""
    servers = [name for name, server in sorted(state.servers.items()) if server.status in ("up", "draining")]
    answers = await asyncio.gather(*(_inventory_or_error(bus, server) for server in servers))
    return dict(zip(servers, answers, strict=True))


async def _inventory_or_error(bus: Bus, server: str) -> ServerInventory | MafaldaError:
    try:
        return await inventory(bus, server)
    except MafaldaError as error:
        return error


async def _overdue(bus: Bus, waiting: list[Finding], deadline_s: float) -> list[Finding]:
    """Those that have waited for too long, by when their entries were stored; of the others, only one is looked up."""
    if not waiting:
        return []
    now = (await bus.log_usage()).as_of or datetime.now(UTC)
    late: list[Finding] = []
    times: dict[int, datetime | None] = {}
    for found in sorted(waiting, key=lambda one: one.since_seq or 0):
        seq = found.since_seq or 0
        if seq not in times:
            times[seq] = await _stored_at(bus, seq)
        timed = replace(found, since=times[seq])
        if overdue(timed, now, deadline_s):
            late.append(timed)
        elif found.code != "relay-unused":
            break  # what comes after it was stored later
    return late


async def _stored_at(bus: Bus, seq: int) -> datetime | None:
    try:
        return await bus.stored_at(seq)
    except NotFound:
        return None
