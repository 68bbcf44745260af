"""Load reports: what this server's workers use and what they have, measured once a second.

A report is the agent's heartbeat: it is made of what is known at the moment, and waits for nothing. CPU and memory are
the kernel's own accounting of each worker process; whether a worker answers is known from its probe.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import psutil
import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.messages.events import LoadSampled
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.errors import MafaldaError
from mafalda.telemetry.metrics import gauges, is_metering, load_gauges
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Machine
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.supervision.bitrates import BitrateSampler, transports_of
from mafalda.workers.supervision.rtp_sampler import RtpSampler
from mafalda.workers.supervision.supervisor import LiveWorker, WorkerSupervisor

#: What each UDP socket of a worker asks for (``UdpSocketBuffers.hpp``).
UDP_BUFFER_BYTES = 4 * 1024 * 1024
log = structlog.get_logger("mafalda.workers")


@dataclass(slots=True)
class _Meter:
    """The last measurement of one worker."""

    process: psutil.Process
    cpu_s: float
    at: float
    bitrates: BitrateSampler


class LoadReporter:
    """Measures and reports. A report waits for no worker and for no append: it is the agent's heartbeat.

    Args:
        config: How often.
        tasks: Runs what waits for workers.
        publisher: Publishes the reports.
        machine: Has the state that was read from the log, and its sequence.
        supervisor: The workers.
        relays: How many relays go into and out of a worker.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        publisher: Publisher,
        machine: Machine,
        supervisor: WorkerSupervisor,
        relays: Callable[[str], tuple[int, int]],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._publisher = publisher
        self._machine = machine
        self._supervisor = supervisor
        self._relays = relays
        self._meters: dict[str, _Meter] = {}
        self._lag_s = 0.0
        self._last: ServerLoad | None = None

    async def run(self) -> None:
        """Publish reports until cancelled."""
        streams = RtpSampler(self._config.server, self._tasks, self._supervisor) if is_metering() else None
        with gauges(load_gauges(lambda: self._last) | (streams.readers() if streams else {})):
            await self._run(streams)

    async def _run(self, streams: RtpSampler | None) -> None:
        loop = asyncio.get_running_loop()
        psutil.cpu_percent()  # the first call only begins the first interval
        due = reported_at = loop.time()
        while True:
            load = self._last = self.measure(max(loop.time() - reported_at, 1e-3))
            reported_at = loop.time()
            if streams:
                streams.begin()
            try:
                async with asyncio.timeout(self._config.report_interval_s):
                    await self._publisher.publish(load, subjects.load(load.server))
            except (MafaldaError, TimeoutError) as error:  # media goes on; the next report replaces it
                log.warning("load not reported", action="load_unreported", reason=str(error))
            due = max(due + self._config.report_interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self._lag_s = max(0.0, loop.time() - due)

    async def sample(self) -> None:
        """Append a report to the log at intervals until cancelled; one that the log does not take is skipped."""
        while True:
            await asyncio.sleep(self._config.sample_interval_s)
            if self._last is None:
                continue
            sampled = LoadSampled(load=self._last)
            try:
                await self._publisher.append_once(sampled, subjects.server_event(self._config.server, sampled.action))
            except MafaldaError as error:
                log.warning("load not sampled", action="load_unsampled", outcome=error.code, reason=str(error))

    def measure(self, interval_s: float) -> ServerLoad:
        """Measure now; ``interval_s`` is the time since the last report, in seconds."""
        alive = list(self._supervisor.alive.values())
        self._meters = {live.id: self._meters[live.id] for live in alive if live.id in self._meters}
        workers = [self._measure_worker(live) for live in alive]
        return ServerLoad(
            server=self._config.server,
            incarnation=self._machine.incarnation,
            as_of_seq=self._machine.seq,
            interval_s=interval_s,
            region=self._config.region,
            draining=self._is_draining(),
            cpu_count=os.cpu_count() or 1,
            cpu_ratio=psutil.cpu_percent() / 100,
            memory_used_ratio=min(psutil.virtual_memory().percent / 100, 1.0),
            event_loop_lag_s=self._lag_s,
            ports_left=self._ports_left(alive),
            udp_buffer_bytes=_udp_buffer_bytes(),
            append_error=self._publisher.append_error,
            workers=[worker for worker in workers if worker],
        )

    def _measure_worker(self, live: LiveWorker) -> WorkerLoad | None:
        now = asyncio.get_running_loop().time()
        try:
            process = psutil.Process(live.worker.pid) if live.id not in self._meters else self._meters[live.id].process
            with process.oneshot():
                times = process.cpu_times()
                memory_bytes = process.memory_info().rss
        except psutil.Error as error:  # it is dying
            log.warning("worker not measured", action="load_unmeasured", worker_id=live.id, reason=str(error))
            return None
        cpu_s = times.user + times.system
        meter = self._meters.setdefault(live.id, _Meter(process, cpu_s, now, BitrateSampler(self._tasks, live)))
        cpu_ratio = (cpu_s - meter.cpu_s) / max(now - meter.at, 1e-3)
        meter.cpu_s, meter.at = cpu_s, now
        meter.bitrates.begin()
        relays_in, relays_out = self._relays(live.id)
        transports = transports_of(live)
        return WorkerLoad(
            worker=live.id,
            pid=live.worker.pid,
            cpu_ratio=max(cpu_ratio, 0.0),
            memory_bytes=memory_bytes,
            channel_latency_s=live.probe.responsiveness.latency_s(now),
            state=live.probe.responsiveness.state(now),
            routers=len(live.worker.routers),
            transports=len(transports),
            producers=sum(len(transport.producers) for transport in transports),
            consumers=sum(len(transport.consumers) for transport in transports),
            data_producers=sum(len(transport.data_producers) for transport in transports),
            data_consumers=sum(len(transport.data_consumers) for transport in transports),
            relays_in=relays_in,
            relays_out=relays_out,
            receive_bps=meter.bitrates.receive_bps,
            send_bps=meter.bitrates.send_bps,
        )

    def _is_draining(self) -> bool:
        server = self._machine.state.servers.get(self._config.server)
        return server is not None and server.status == "draining"

    def _ports_left(self, alive: list[LiveWorker]) -> int | None:
        ports = self._config.port_range
        if ports is None:
            return None
        used = sum(_ports(live, shared=self._config.webrtc == "server") for live in alive)
        return max(0, ports.max - ports.min + 1 - used)


@cache
def _udp_buffer_bytes() -> int:
    """What the kernel gives a socket that asks for what a worker's sockets ask for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux doubles it, for its own use


def _ports(live: LiveWorker, *, shared: bool) -> int:
    own = [transport for transport in transports_of(live) if not (shared and transport.type == "webrtc")]
    return len(own) + (1 if shared else 0)
