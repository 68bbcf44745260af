"""Run an allocator: follow the log, receive load reports, and append what the core decides.

Several allocators may run. They divide the rooms (``reports``); what the owner of a room leaves undone, the others
find by time. Two that decide for the same room at once cannot both win: a command is appended only if the room's
last command is the one that the decision was made from. An allocator that is killed loses nothing: all that it knows
is in the log and in the next load reports.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import structlog

from mafalda.aio.sequence import SequenceWaiter
from mafalda.aio.tasks import open_tasks
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.placement.policy import POLICIES, Rng
from mafalda.allocator.core.state.fold import changes_nothing, fold_entry, skip_entry
from mafalda.allocator.core.state.incarnations import foreign_event, is_foreign_load
from mafalda.allocator.core.state.log_entry import read_at, read_load
from mafalda.allocator.core.state.snapshot import restore
from mafalda.allocator.core.state.stimulus import Stimulus
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import BusClock, Clock
from mafalda.allocator.runner.incarnation_warnings import IncarnationWarnings
from mafalda.allocator.runner.reports import AllocatorReports
from mafalda.allocator.runner.room_executor import RoomExecutor
from mafalda.allocator.runner.snapshots import SnapshotWriter
from mafalda.bus.protocol import REPLY_HEADER, Bus, Delivery, Follower
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message
from mafalda.contract.subjects import parse
from mafalda.errors import BadInput, BusUnavailable, MafaldaError
from mafalda.snapshot.store import read_snapshot
from mafalda.telemetry.metrics import Observation, Read, gauges

#: An allocator follows the whole log: then each gap shows at the next entry, and nothing has to be read twice.
FOLLOWED = subjects.LOG_SUBJECTS

#: Entries that are folded before other tasks run.
_BURST = 1024
_CATCH_UP_POLL_S = 0.01
#: A tick that is later than this shows that the process was suspended.
_SUSPENDED_S = 1.0

#: Joins that wait for capacity and are decided again at each load report, and at each tick.
_WAITING_AT_A_REPORT = 8
_WAITING_AT_A_TICK = 64

_log = structlog.get_logger(__name__)


async def run_allocator(
    bus: Bus,
    config: AllocatorConfig,
    *,
    clock: Clock | None = None,
    rng: Callable[[str], Rng] = random.Random,
    ready: asyncio.Event | None = None,
    counters: Counter[str] | None = None,
    allocator_id: str | None = None,
) -> None:
    """Run one allocator until cancelled.

    Args:
        bus: Connected; stays open.
        config: The same for all allocators of a fleet, but for the name.
        clock: ``None``: the bus's.
        rng: Makes the random numbers of one decision from a seed that follows from its stimulus.
        ready: Set when the log's past is folded and new intents are answered.
        counters: Counted into, if given: ``decided-…``, ``appended``, ``conflict``, ``unreadable-…`` and others.
        allocator_id: Of this process, no other has it. ``None``: the name with a random end.

    Raises:
        ValueError: There is no such policy.
        BusUnavailable: The log cannot be followed.
        SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
    """
    if config.policy not in POLICIES:
        raise ValueError(f"no such policy: {config.policy!r}; there are {', '.join(sorted(POLICIES))}")
    view = View(config, allocator_id or _new_id(config.name), counters if counters is not None else Counter())
    allocator = Allocator(bus, config, clock or BusClock(bus), rng, view)
    try:
        await allocator.run(ready or asyncio.Event())
    except BaseExceptionGroup as group:
        if (first := _first_error(group)) is None:
            raise
        raise first from group


class Allocator:
    """The tasks of one allocator and what they share. Use ``run_allocator``."""

    def __init__(self, bus: Bus, config: AllocatorConfig, clock: Clock, rng: Callable[[str], Rng], view: View) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._rng = rng
        self._counters = view.counters
        self._view = view
        self._folded = SequenceWaiter()
        self._executor: RoomExecutor | None = None  # once the log's past is folded
        self._warnings = IncarnationWarnings()

    async def run(self, ready: asyncio.Event) -> None:
        """Catch up, then work until cancelled."""
        with gauges(self._gauges()):
            await self._run(ready)

    async def _run(self, ready: asyncio.Event) -> None:
        started = self._clock.now()
        after_seq = await self._restore()
        end = await self._bus.last_seq()
        async with (
            self._bus.listen(subjects.ALL_LOADS) as loads,
            self._bus.follow(*FOLLOWED, after_seq=after_seq) as follower,
            asyncio.TaskGroup() as following,
        ):
            self._spawn(following, self._follow(follower), "follow")
            while follower.seq < end:  # noqa: ASYNC110 — entries at the log's end that are not followed wake nobody
                await asyncio.sleep(_CATCH_UP_POLL_S)
            self._view.begin(self._clock.now())
            for delivery in await self._bus.latest_loads():
                self._take_report(delivery)
            async with (
                self._bus.listen(subjects.ALL_ALLOCATOR_REPORTS) as others,
                open_tasks() as deciding,
                asyncio.TaskGroup() as working,
            ):
                executor = self._executor = RoomExecutor(
                    self._bus,
                    self._config,
                    self._clock,
                    self._rng,
                    self._view,
                    self._counters,
                    self._folded,
                    deciding,
                )
                self._spawn(working, self._take_reports(loads), "loads")
                reports = AllocatorReports(
                    self._bus,
                    self._config,
                    self._clock,
                    self._view,
                    self._counters,
                    lambda: executor.finished,
                    lambda: self._submit(work_queue.owned(self._view)),
                )
                self._spawn(working, reports.take(others), "others")
                self._spawn(working, reports.run(), "reports")
                self._spawn(working, self._tick(), "timer")
                self._spawn(working, self._probe_bus(), "probe")
                writer = SnapshotWriter(self._bus, self._config, self._clock, self._view, random.random)
                self._spawn(working, writer.run(), "snapshots")
                _log.info(
                    "allocator-ready",
                    action="allocator_ready",
                    allocator=self._config.name,
                    policy=self._config.policy,
                    stream_seq=self._view.seq,
                    duration_s=round(self._clock.now() - started, 6),
                )
                ready.set()

    async def _restore(self) -> int:
        """Begin with the newest snapshot; returns the log entry as of which it is, 0 without one."""
        snapshot = await read_snapshot(self._bus)
        if snapshot is None:
            return 0
        restore(self._view, snapshot.seq, snapshot.fleet, snapshot.rooms, self._clock.now())
        return snapshot.seq

    def _gauges(self) -> dict[str, Read]:
        """The fleet as this allocator sees it, for metrics."""
        view = self._view

        def one(value: Callable[[], int]) -> Read:
            return lambda: [Observation(value(), {"mafalda.allocator": self._config.name})]

        return {
            "mafalda.log.seq": one(lambda: view.seq),
            "mafalda.rooms": one(lambda: len(view.state.rooms)),
            "mafalda.peers": one(lambda: sum(len(room.peers) for room in list(view.state.rooms.values()))),
            "mafalda.peers.unplaced": one(lambda: len(view.unplaced)),
            "mafalda.joins.waiting": one(lambda: view.open_intents.waiting_count),
            "mafalda.workers": one(lambda: len(view.fleet.workers)),
            "mafalda.workers.ineligible": lambda: [
                Observation(count, {"mafalda.allocator": self._config.name, "mafalda.reason": reason})
                for reason, count in list(view.fleet.obstacles.items())
            ],
        }

    def _spawn(self, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> None:
        tasks.create_task(work, name=f"{self._config.name}-{name}")

    def _submit(self, stimuli: Iterable[Stimulus]) -> None:
        if self._executor:
            for stimulus in stimuli:
                self._executor.submit(stimulus)

    # --- the log ---------------------------------------------------------------------------------

    async def _follow(self, follower: Follower) -> None:
        burst = 0
        async for delivery in follower:
            self._fold(delivery)
            burst += 1
            if burst % _BURST == 0:
                await asyncio.sleep(0)
        raise BusUnavailable("the log cannot be followed any more")

    def _fold(self, delivery: Delivery) -> None:
        """Fold one entry. One that raises is a bug; it is logged, and the reader goes on."""
        try:
            address = parse(delivery.subject)
            if address is None or changes_nothing(self._view, address):
                skip_entry(self._view, delivery.seq)
            else:
                entry = read_at(delivery.seq, address, delivery.data, delivery.headers.get(REPLY_HEADER))
                if self._executor and entry.message:
                    self._warn_of_foreign_event(entry.message)
                fold_entry(self._view, entry, self._clock.now())
        except Exception:
            self._counters["broken-fold"] += 1
            _log.exception("broken-fold", action="broken_fold", subject=delivery.subject, stream_seq=delivery.seq)
        self._folded.reached(delivery.seq)
        if self._executor:
            self._executor.entry_stored(delivery.seq)
        self._submit(work_queue.of_entry(self._view, delivery.seq))
        self._submit(work_queue.woken(self._view))

    def _warn_of_foreign_event(self, message: Message) -> None:
        """Warn about an event that has no effect because its server does not run in that incarnation."""
        if event := foreign_event(self._view.state, message.data):
            self._counters["foreign-event"] += 1
            self._warnings.note(message, event.server, event.incarnation, self._clock.now())

    # --- loads -----------------------------------------------------------------------------------

    async def _take_reports(self, loads: AsyncIterator[Delivery]) -> None:
        async for delivery in loads:
            self._take_report(delivery)
        raise BusUnavailable("the subscription to load reports has ended")

    def _take_report(self, delivery: Delivery) -> None:
        try:
            message, load = read_load(delivery.subject, delivery.data)
        except BadInput as error:
            self._counters["unreadable-load"] += 1
            _log.warning("unreadable-load", action="unreadable_load", subject=delivery.subject, reason=str(error))
            return
        if not self._view.report(load, self._clock.now()):
            self._counters["stale-load"] += 1
            if is_foreign_load(self._view.state, load):
                self._warnings.load(message, load.server, load.incarnation, self._clock.now())
            return
        self._submit(work_queue.waiting(self._view, at_a_time=_WAITING_AT_A_REPORT))

    # --- time ------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Decide what is due. After a tick that is much too late, this process was suspended, and no server is lost."""
        last = self._clock.now()
        while True:
            await self._clock.sleep(self._config.tick_s)
            now = self._clock.now()
            if now - last > self._config.tick_s + _SUSPENDED_S:
                self._counters["suspended"] += 1
                self._view.liveness.suspended(now)
            last = now
            self._view.liveness.tick(now)
            self._submit(work_queue.due(self._view, now))
            self._submit(work_queue.waiting(self._view, at_a_time=_WAITING_AT_A_TICK))

    async def _probe_bus(self) -> None:
        """Check at intervals that the bus answers: an allocator that cannot reach it must declare no server lost."""
        liveness = self._view.liveness
        while True:
            await self._clock.sleep(self._config.report_interval_s)
            try:
                async with asyncio.timeout(self._config.report_interval_s):
                    await self._bus.last_seq()
            except (TimeoutError, MafaldaError) as error:
                if liveness.partitioned("read"):
                    reason = str(error) or "no answer"
                    _log.warning("partitioned", action="partitioned", allocator=self._config.name, reason=reason)
                self._counters["partitioned"] += 1
                continue
            liveness.reconnected("read", self._clock.now())


def _new_id(name: str) -> str:
    """The id of an allocator's process: several may have one name."""
    return f"{name[:55]}-{secrets.token_hex(4)}"


def _first_error(group: BaseExceptionGroup[BaseException]) -> MafaldaError | None:
    """The first ``MafaldaError`` in a group of exceptions, at any depth."""
    for error in group.exceptions:
        found = _first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, MafaldaError):
            return found
    return None
