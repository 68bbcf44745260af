"""Load reports: what this server's workers use and what they have, measured once a second.

CPU and memory are the kernel's own accounting of each worker process. Bitrates are summed from the workers'
statistics, a few transports at a time, so that reporting stays cheap however many there are.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import psutil
import structlog

from mafalda.contract import subjects
from mafalda.contract.messages.events import LoadSampled
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.errors import BusUnavailable, MafaldaError
from mafalda.mediasoup import Transport
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Machine
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.supervision.supervisor import LiveWorker, Supervisor

#: Transports of each worker whose statistics are read for one report.
SAMPLED_TRANSPORTS = 8
#: What each UDP socket of a worker asks for (``UdpSocketBuffers.hpp``).
UDP_BUFFER_BYTES = 4 * 1024 * 1024
log = structlog.get_logger("mafalda.workers")


@dataclass(slots=True)
class _Known:
    """The last measurement of one worker."""

    process: psutil.Process
    cpu_s: float
    at: float
    bps: dict[str, tuple[float, float]] = field(default_factory=dict)  # transport: received, sent
    next_transport: int = 0


class LoadReporter:
    """Measures and reports.

    Args:
        config: How often.
        publisher: Publishes the reports.
        machine: The log sequence up to which the log was read.
        supervisor: The workers.
        relays: How many relays go into and out of a worker.
    """

    def __init__(
        self,
        config: AgentConfig,
        publisher: Publisher,
        machine: Machine,
        supervisor: Supervisor,
        relays: Callable[[str], tuple[int, int]],
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._machine = machine
        self._supervisor = supervisor
        self._relays = relays
        self._known: dict[str, _Known] = {}
        self._lag_s = 0.0

    async def run(self) -> None:
        """Publish reports until cancelled; some of them are appended to the log as well."""
        loop = asyncio.get_running_loop()
        psutil.cpu_percent()  # the first call only begins the first interval
        sampled_at = reported_at = loop.time()
        due = reported_at
        while True:
            load = await self.measure(max(loop.time() - reported_at, 1e-3))
            reported_at = loop.time()
            try:
                await self._publisher.publish(load, subjects.load(load.server))
            except BusUnavailable as error:  # media goes on; a report that is missed is replaced by the next
                log.warning("load not reported", action="load_unreported", reason=str(error))
            if loop.time() - sampled_at >= self._config.sample_interval_s:
                sampled_at = loop.time()
                await self._publisher.append(
                    LoadSampled(load=load), subjects.server_event(load.server, LoadSampled.action)
                )
            due = max(due + self._config.report_interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self._lag_s = max(0.0, loop.time() - due)

    async def measure(self, interval_s: float) -> ServerLoad:
        """Measure now; ``interval_s`` is the time since the last report, in seconds."""
        alive = list(self._supervisor.alive.values())
        self._known = {live.id: self._known[live.id] for live in alive if live.id in self._known}
        workers = await asyncio.gather(*(self._measure_worker(live) for live in alive))
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
            workers=[worker for worker in workers if worker],
        )

    async def _measure_worker(self, live: LiveWorker) -> WorkerLoad | None:
        loop = asyncio.get_running_loop()
        try:
            known = self._known.get(live.id) or _start(live, loop.time())
            asked_at = loop.time()
            await live.worker.get_resource_usage()
            latency_s = loop.time() - asked_at
            with known.process.oneshot():
                times = known.process.cpu_times()
                memory_bytes = known.process.memory_info().rss
            await self._sample(live, known)
        except (MafaldaError, psutil.Error) as error:  # it is dying, or too busy to answer
            log.warning("worker not measured", action="load_unmeasured", worker_id=live.id, reason=str(error))
            return None
        now, cpu_s = loop.time(), times.user + times.system
        cpu_ratio = (cpu_s - known.cpu_s) / max(now - known.at, 1e-3) if live.id in self._known else 0.0
        known.cpu_s, known.at = cpu_s, now
        self._known[live.id] = known
        relays_in, relays_out = self._relays(live.id)
        transports = _transports(live)
        return WorkerLoad(
            worker=live.id,
            pid=live.worker.pid,
            cpu_ratio=max(cpu_ratio, 0.0),
            memory_bytes=memory_bytes,
            channel_latency_s=latency_s,
            routers=len(live.worker.routers),
            transports=len(transports),
            producers=sum(len(transport.producers) for transport in transports),
            consumers=sum(len(transport.consumers) for transport in transports),
            data_producers=sum(len(transport.data_producers) for transport in transports),
            data_consumers=sum(len(transport.data_consumers) for transport in transports),
            relays_in=relays_in,
            relays_out=relays_out,
            receive_bps=sum(received for received, _ in known.bps.values()),
            send_bps=sum(sent for _, sent in known.bps.values()),
        )

    async def _sample(self, live: LiveWorker, known: _Known) -> None:
        """Read the bitrates of the next few transports, in rotation."""
        transports = _transports(live)
        here = {transport.id for transport in transports}
        known.bps = {id: bps for id, bps in known.bps.items() if id in here}
        count = min(SAMPLED_TRANSPORTS, len(transports))
        for offset in range(count):
            transport = transports[(known.next_transport + offset) % len(transports)]
            if transport.closed:
                continue
            for stats in await transport.get_stats():
                known.bps[transport.id] = (float(stats["recvBitrate"]), float(stats["sendBitrate"]))
        if transports:
            known.next_transport = (known.next_transport + count) % len(transports)

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


def _start(live: LiveWorker, now: float) -> _Known:
    process = psutil.Process(live.worker.pid)
    times = process.cpu_times()
    return _Known(process, times.user + times.system, now)


def _transports(live: LiveWorker) -> list[Transport]:
    return [transport for router in live.worker.routers.values() for transport in router.transports.values()]


def _ports(live: LiveWorker, *, shared: bool) -> int:
    own = [transport for transport in _transports(live) if not (shared and transport.type == "webrtc")]
    return len(own) + (1 if shared else 0)
