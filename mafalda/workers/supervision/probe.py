"""Probes one worker over its channel, and kills it when it has not answered for too long."""

from __future__ import annotations

import asyncio

import structlog

from mafalda.aio.tasks import background
from mafalda.errors import Closed, MafaldaError
from mafalda.mediasoup import Worker
from mafalda.mediasoup.errors import RequestTimeout, WorkerExited
from mafalda.workers.config import AgentConfig
from mafalda.workers.supervision.responsiveness import Responsiveness

#: How often it is checked whether a worker has answered.
_CHECK_INTERVAL_S = 0.25
#: A check that is later than this shows that this process stood still.
_STOOD_STILL_S = 0.5
log = structlog.get_logger("mafalda.workers")


class WorkerProbe:
    """The probe of one worker. That of one worker waits for no other, and nothing else waits for it.

    Args:
        config: The interval and the limits.
        worker_id: For log lines.
        worker: The process to probe.
    """

    def __init__(self, config: AgentConfig, worker_id: str, worker: Worker) -> None:
        self._interval_s = config.report_interval_s
        self._worker_id = worker_id
        self._worker = worker
        self.responsiveness = Responsiveness(config.worker_probe_timeout_s, config.worker_unresponsive_kill_s)

    async def run(self) -> None:
        """Probe until the worker ends, or is killed because it does not answer, or this is cancelled."""
        async with background(self._ask(), f"probe {self._worker_id}"):
            await self._watch()

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.responsiveness.asked(loop.time())
            try:
                await self._worker.get_resource_usage()
            except (WorkerExited, Closed):
                return
            except RequestTimeout:
                continue  # it stays the oldest unanswered one
            except MafaldaError as error:  # a refusal is an answer
                log.debug("probe refused", action="probe_refused", worker_id=self._worker_id, reason=str(error))
            self.responsiveness.answered(loop.time())
            await asyncio.sleep(self._interval_s)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        checked_at, state = loop.time(), "ready"
        while not self._worker.closed:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            now = loop.time()
            late_s = now - checked_at - _CHECK_INTERVAL_S
            if late_s > _STOOD_STILL_S:
                self.responsiveness.stood_still(late_s)
            checked_at = now
            if (found := self.responsiveness.state(now)) != state:
                state = found
                self._log_state(state, now)
            if self.responsiveness.is_kill_due(now):
                log.error("unresponsive worker killed", action="worker_unresponsive_killed", **self._fields(now))
                self._worker.kill()
                return

    def _log_state(self, state: str, now: float) -> None:
        if state == "unresponsive":
            log.warning("worker is unresponsive", action="worker_unresponsive", **self._fields(now))
        else:
            log.info("worker answers again", action="worker_ready", **self._fields(now))

    def _fields(self, now: float) -> dict[str, str | int | float]:
        latency_s = round(self.responsiveness.latency_s(now), 3)
        return {"worker_id": self._worker_id, "worker_pid": self._worker.pid, "channel_latency_s": latency_s}
