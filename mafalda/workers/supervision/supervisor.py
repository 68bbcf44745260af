"""The worker processes of one server: started, probed, and after their death started again under a new id."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from mafalda.aio.tasks import TaskScope, background
from mafalda.contract.messages.events import WorkerInfo
from mafalda.contract.messages.payload import Place
from mafalda.errors import MafaldaError
from mafalda.mediasoup import WebRtcServer, Worker, create_worker
from mafalda.mediasoup.errors import WorkerExited, WorkerStartFailed
from mafalda.workers.config import AgentConfig
from mafalda.workers.supervision.probe import WorkerProbe

#: So many short lives in a row are a crash loop.
CRASH_LOOP_LIVES = 3
log = structlog.get_logger("mafalda.workers")


#: Batches of requests that one worker is given at a time.
MAX_BATCHES = 4


@dataclass(slots=True, eq=False)
class LiveWorker:
    """One worker process. Its id is never used again after its death.

    ``batches`` bounds the batches of requests that are in flight: a probe waits behind what was requested before it.
    """

    place: Place
    slot: int
    worker: Worker
    webrtc_server: WebRtcServer | None
    probe: WorkerProbe
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    batches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_BATCHES))

    @property
    def id(self) -> str:
        """The worker's id."""
        return self.place.worker

    @property
    def info(self) -> WorkerInfo:
        """The worker as events have it."""
        return WorkerInfo(worker=self.id, pid=self.worker.pid, slot=self.slot)


class WorkerSupervisor:
    """Keeps ``config.workers`` worker processes running.

    Args:
        config: How many, and how they listen.
        tasks: Runs one task for each slot.
        on_up: Called with each worker that runs after the first round.
        on_gone: Called at once when a worker has died.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        *,
        on_up: Callable[[LiveWorker], None],
        on_gone: Callable[[LiveWorker, WorkerExited], None],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._on_up = on_up
        self._on_gone = on_gone
        self.alive: dict[str, LiveWorker] = {}

    def require(self, worker: str) -> LiveWorker:
        """The living worker with this id.

        Raises:
            WorkerExited: It is dead, or never was.
        """
        if found := self.alive.get(worker):
            return found
        raise WorkerExited("the worker is dead", worker=worker)

    async def start(self) -> list[LiveWorker]:
        """Start all; those that run when each has run or failed once.

        Raises:
            MafaldaError: None could be started: the failure of the lowest slot.
        """
        firsts: list[asyncio.Future[MafaldaError | None]] = []
        for slot in range(self._config.workers):
            first: asyncio.Future[MafaldaError | None] = asyncio.get_running_loop().create_future()
            firsts.append(first)
            self._tasks.spawn(self._run_slot(slot, first), f"worker slot {slot}")
        outcomes = await asyncio.gather(*firsts)
        if not self.alive:
            raise next((error for error in outcomes if error), WorkerStartFailed("no worker runs"))
        return sorted(self.alive.values(), key=lambda live: live.slot)

    async def _run_slot(self, slot: int, first: asyncio.Future[MafaldaError | None]) -> None:
        loop = asyncio.get_running_loop()
        short_lives = 0
        while True:
            started = loop.time()
            try:
                async with self._running(slot) as live:
                    if first.done():
                        self._on_up(live)
                    else:
                        first.set_result(None)
                    await live.ended.wait()
            except MafaldaError as error:
                log.error("worker does not start", action="worker_start_failed", slot=slot, reason=str(error))
                if not first.done():
                    first.set_result(error)
            short_lives = short_lives + 1 if loop.time() - started < self._config.crash_loop_s else 0
            await self._pause(slot, short_lives)

    async def _pause(self, slot: int, short_lives: int) -> None:
        """Wait before the next start: not long after one accident, longer and longer in a crash loop."""
        doubled = self._config.restart_backoff_s * 2 ** min(max(short_lives - 1, 0), 16)
        delay_s = min(doubled, self._config.restart_backoff_max_s)
        if short_lives >= CRASH_LOOP_LIVES:
            log.error(
                "worker keeps dying",
                action="worker_crash_loop",
                slot=slot,
                short_lives=short_lives,
                next_start_in_s=delay_s,
            )
        await asyncio.sleep(delay_s)

    @asynccontextmanager
    async def _running(self, slot: int) -> AsyncIterator[LiveWorker]:
        config = self._config
        async with create_worker(
            bin=config.worker_bin,
            log_level=config.worker_log_level,
            rtc_min_port=config.rtc_min_port,
            rtc_max_port=config.rtc_max_port,
            request_timeout_s=config.request_timeout_s,
        ) as worker:
            server = None
            if config.webrtc == "server":
                infos = config.webrtc_listen_infos(slot=slot, tcp=True)
                server = await worker.create_webrtc_server(listen_infos=infos)
            place = Place(server=config.server, worker=_worker_id(config.server, slot))
            live = LiveWorker(place, slot, worker, server, WorkerProbe(config, place.worker, worker))
            worker.on(Worker.DIED, lambda death: self._gone(live, death))
            if worker.died is not None:
                raise worker.died
            self.alive[live.id] = live
            try:
                async with background(live.probe.run(), f"watch {live.id}"):
                    yield live
            finally:
                self.alive.pop(live.id, None)

    def _gone(self, live: LiveWorker, death: WorkerExited) -> None:
        self.alive.pop(live.id, None)
        live.ended.set()
        self._on_gone(live, death)


def _worker_id(server: str, slot: int) -> str:
    suffix = f"-{slot}-{secrets.token_hex(3)}"
    return server[: 64 - len(suffix)] + suffix
