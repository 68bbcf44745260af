"""The shell: follows the log, hears the loads, and appends what the core decides.

Several allocators may run. A log entry is given to one of them first (``share``); what that one
leaves undone, all others find by time. Two that decide the same room at once cannot both win: a
command is appended only if the room's last command is the one that was decided upon.
What does not belong here: any fact of the domain. Whoever is killed here loses nothing: all that an
allocator knows is in the log and in the next load reports.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import structlog

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core import work_queue
from mafalda.allocator.core.decide import Stimulus
from mafalda.allocator.core.placement.policy import POLICIES, Dice
from mafalda.allocator.core.state.entries import read, read_load
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import Clock, LoopClock
from mafalda.allocator.runner.room_executor import Desk
from mafalda.bus.protocol import Bus, Delivery, Follower
from mafalda.contract import subjects
from mafalda.contract.messages import events
from mafalda.errors import BadInput, BusUnavailable, MafaldaError

_SERVER_EVENTS = (
    events.ServerStarted,
    events.ServerStopped,
    events.ServerDraining,
    events.ServerLost,
    events.WorkerStarted,
    events.WorkerDied,
)
#: An allocator follows all of the log: so any hole shows at the next entry, and nothing has to be read twice.
FOLLOWED = subjects.LOG_SUBJECTS
#: What is given to one allocator first.
SHARED = (subjects.ALL_INTENTS, *(f"mafalda.server.*.event.{event.action}" for event in _SERVER_EVENTS))
#: It hears loads themselves.
_SAMPLES = f".event.{events.LoadSampled.action}"
GROUP = "allocator"

#: Entries folded before other tasks get the loop.
_BURST = 256
_CATCH_UP_POLL_S = 0.01
#: A timer that is later than this was not late: the process was suspended.
_SUSPENDED_S = 1.0

_log = structlog.get_logger(__name__)


async def run_allocator(
    bus: Bus,
    config: AllocatorConfig,
    *,
    clock: Clock | None = None,
    rng: Callable[[str], Dice] = random.Random,
    ready: asyncio.Event | None = None,
    counters: Counter[str] | None = None,
) -> None:
    """Run one allocator until cancelled.

    Args:
        bus: Connected; stays open.
        config: The same for all allocators of a fleet, but for the name.
        clock: ``None``: the loop's.
        rng: Makes the dice of one decision from a text that follows from what is decided.
        ready: Set when the log's past is in and new intents are being answered.
        counters: Counted into, if given: ``decided-…``, ``appended``, ``conflict``, ``unreadable-…`` and others.

    Raises:
        ValueError: There is no such policy.
        BusUnavailable: The log cannot be followed.
    """
    if config.policy not in POLICIES:
        raise ValueError(f"no such policy: {config.policy!r}; there are {', '.join(sorted(POLICIES))}")
    allocator = Allocator(bus, config, clock or LoopClock(), rng, counters if counters is not None else Counter())
    try:
        await allocator.run(ready or asyncio.Event())
    except BaseExceptionGroup as group:
        if (first := _first_error(group)) is None:
            raise
        raise first from group


class Allocator:
    """One allocator's tasks and what they share. Use ``run_allocator``."""

    def __init__(
        self, bus: Bus, config: AllocatorConfig, clock: Clock, rng: Callable[[str], Dice], counters: Counter[str]
    ) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._counters = counters
        self._view = View(config, counters=counters)
        self._desk = Desk(bus, config, clock, rng, self._view, counters)
        self._given: set[int] = set()  # log entries that are ours first, and not folded yet
        self._tasks: asyncio.TaskGroup | None = None  # for decisions, once the log's past is in

    async def run(self, ready: asyncio.Event) -> None:
        """Catch up, then work until cancelled."""
        started = self._clock.now()
        end = await self._bus.last_seq()
        async with (
            self._bus.listen(subjects.ALL_LOADS) as loads,
            self._bus.follow(*FOLLOWED, after_seq=0) as follower,
            asyncio.TaskGroup() as following,
        ):
            self._spawn(following, self._follow(follower), "follow")
            while follower.seq < end:  # noqa: ASYNC110 — the log may end with what is not followed: nothing is yielded
                await asyncio.sleep(_CATCH_UP_POLL_S)
            self._view.begin(self._clock.now())
            for delivery in await self._bus.latest_loads():
                self._hear(delivery)
            async with self._bus.share(*SHARED, group=GROUP) as shared, asyncio.TaskGroup() as working:
                self._tasks = working
                self._spawn(working, self._listen(loads), "loads")
                self._spawn(working, self._share(shared), "share")
                self._spawn(working, self._keep_time(), "timer")
                self._spawn(working, self._check_hearing(), "hearing")
                _log.info(
                    "allocator-ready",
                    action="allocator-ready",
                    allocator=self._config.name,
                    policy=self._config.policy,
                    stream_seq=self._view.seq,
                    duration_s=round(self._clock.now() - started, 6),
                )
                ready.set()

    def _spawn(self, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> None:
        tasks.create_task(work, name=f"{self._config.name}-{name}")

    def _take(self, stimuli: Iterable[Stimulus]) -> None:
        if self._tasks:
            for stimulus in stimuli:
                self._desk.take(stimulus, self._tasks)

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
        """Fold one entry. One that breaks the view is a bug, and must not stop the log's reader."""
        try:
            if delivery.subject.endswith(_SAMPLES):
                self._view.pass_over(delivery.seq)
            elif entry := read(delivery.seq, delivery.subject, delivery.data):
                self._view.fold(entry, self._clock.now())
        except Exception:
            self._counters["broken-fold"] += 1
            _log.exception("broken-fold", action="broken-fold", subject=delivery.subject, stream_seq=delivery.seq)
        self._desk.folded(delivery.seq)
        if delivery.seq in self._given:
            self._given.discard(delivery.seq)
            self._take(work_queue.of_entry(self._view, delivery.seq))
        self._take(work_queue.woken(self._view))

    async def _share(self, shared: AsyncIterator[Delivery]) -> None:
        """What this allocator is given first. If it is not folded yet, its turn comes with the fold."""
        async for delivery in shared:
            if delivery.seq > self._view.seq:
                self._given.add(delivery.seq)
            else:
                self._take(work_queue.of_entry(self._view, delivery.seq))
        raise BusUnavailable("nothing is shared any more")

    # --- loads -----------------------------------------------------------------------------------

    async def _listen(self, loads: AsyncIterator[Delivery]) -> None:
        async for delivery in loads:
            self._hear(delivery)
        raise BusUnavailable("loads are not heard any more")

    def _hear(self, delivery: Delivery) -> None:
        try:
            load = read_load(delivery.subject, delivery.data)
        except BadInput as error:
            self._counters["unreadable-load"] += 1
            _log.warning("unreadable-load", action="unreadable-load", subject=delivery.subject, reason=str(error))
            return
        if not self._view.report(load, self._clock.now()):
            self._counters["stale-load"] += 1

    # --- time ------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Take up what is due. Much too late, it was us who stood still, and nobody else."""
        last = self._clock.now()
        while True:
            await self._clock.sleep(self._config.tick_s)
            now = self._clock.now()
            if now - last > self._config.tick_s + _SUSPENDED_S:
                self._counters["suspended"] += 1
                self._view.hear_again(now)
            last = now
            self._view.tick(now)
            self._given = {seq for seq in self._given if seq > self._view.seq}
            self._take(work_queue.due(self._view, now))

    async def _check_hearing(self) -> None:
        """Ask the bus something now and then: who cannot reach it must not hold others for lost."""
        deaf = False
        while True:
            await self._clock.sleep(self._config.report_interval_s)
            try:
                async with asyncio.timeout(self._config.report_interval_s):
                    await self._bus.last_seq()
            except (TimeoutError, MafaldaError) as error:
                if not deaf:
                    _log.warning("deaf", action="deaf", allocator=self._config.name, reason=str(error) or "no answer")
                deaf = True
                self._counters["deaf"] += 1
                self._view.go_deaf()
                continue
            if deaf:
                deaf = False
                self._view.hear_again(self._clock.now())


def _first_error(group: BaseExceptionGroup[BaseException]) -> MafaldaError | None:
    """The error of ours that ended the tasks, out of the groups that it came in."""
    for error in group.exceptions:
        found = _first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, MafaldaError):
            return found
    return None
