"""RTP statistics of a server's workers for its metrics, sampled from a few producers and consumers at a time.

mediasoup has them by request for each object only, so they are read in rotation, beside the load reports: the cost is
the same for ten consumers as for ten thousand, and what grows is the time until each had its turn. Counters grow by
what a stream counted since its last turn, so they are late; what a stream counts after its last turn is not in them.
Each round takes every stream once, so the histograms are those of all streams that carried packets since their last.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.errors import MafaldaError
from mafalda.mediasoup import Consumer, Producer
from mafalda.telemetry.metrics import OF_STREAMS, Observation, Read, record_stream
from mafalda.workers.supervision.bitrates import transports_of
from mafalda.workers.supervision.supervisor import LiveWorker, WorkerSupervisor

#: Producers and consumers of the whole server whose statistics are read in each report interval.
SAMPLED_ENDPOINTS = 8
#: Which of mediasoup's counters is which metric.
_COUNTED = dict(
    zip(
        OF_STREAMS,
        ("packetCount", "byteCount", "packetsLost", "packetsRetransmitted", "nackCount", "pliCount", "firCount"),
        strict=True,
    )
)
log = structlog.get_logger("mafalda.workers")

Series = tuple[str, str, str, str]  # worker, type of the transport, kind, direction
_DIRECTIONS = {"inbound-rtp": "receive", "outbound-rtp": "transmit"}


class RtpTotals:
    """What the streams of a server have counted, by worker, type of the transport, kind and direction."""

    def __init__(self) -> None:
        self._totals: dict[Series, Counter[str]] = {}
        self._seen: dict[tuple[str, int], dict[str, int]] = {}  # object, SSRC: its counters at its last turn

    def add(self, object_id: str, series: Series, stats: dict[str, Any]) -> bool:
        """Add what a stream has counted since its last turn.

        Args:
            object_id: The producer or consumer.
            series: What it is counted as.
            stats: Its statistics, in mediasoup's shape.

        Returns:
            Whether it carried packets since then; the loss and score of one that does not are no news.
        """
        key = object_id, int(stats["ssrc"])
        before, now = self._seen.get(key, {}), {name: int(stats.get(name, 0)) for name in _COUNTED.values()}
        totals = self._totals.setdefault(series, Counter())
        for name, count in now.items():
            now[name] = max(count, before.get(name, 0))  # losses may go down: a late packet was not lost
            totals[name] += now[name] - before.get(name, 0)
        self._seen[key] = now
        return now["packetCount"] > before.get("packetCount", 0)

    def keep(self, objects: set[str], workers: set[str]) -> None:
        """Forget all but these objects and workers."""
        self._seen = {key: counters for key, counters in self._seen.items() if key[0] in objects}
        self._totals = {series: totals for series, totals in self._totals.items() if series[0] in workers}

    def read(self, metric: str) -> Iterator[tuple[Series, int]]:
        """The totals of one metric of ``OF_STREAMS``. May be called from another thread."""
        for series, totals in list(self._totals.items()):
            yield series, totals[_COUNTED[metric]]


class RtpSampler:
    """Samples the streams of a server.

    Args:
        server: Its id.
        tasks: Runs the readings.
        supervisor: The workers.
        sampled: Producers and consumers that are read at a time.
    """

    def __init__(
        self, server: str, tasks: TaskScope, supervisor: WorkerSupervisor, *, sampled: int = SAMPLED_ENDPOINTS
    ) -> None:
        self._server = server
        self._tasks = tasks
        self._supervisor = supervisor
        self._sampled = sampled
        self._totals = RtpTotals()
        self._round: deque[tuple[LiveWorker, str, Producer | Consumer]] = deque()  # whose turn is to come
        self._is_reading = False

    def readers(self) -> dict[str, Read]:
        """The counters, for ``gauges``."""
        return {name: partial(self._observe, name) for name in OF_STREAMS}

    def begin(self) -> None:
        """Read the next few streams, unless the last reading still waits for its answers."""
        if not self._is_reading:
            self._is_reading = True
            self._tasks.spawn(self._read(), "rtp statistics")

    async def _read(self) -> None:
        try:
            if not self._round:
                self._begin_round()
            for _ in range(min(self._sampled, len(self._round))):
                await self._read_one(*self._round.popleft())
        finally:
            self._is_reading = False

    def _begin_round(self) -> None:
        for live in self._supervisor.alive.values():
            for transport in transports_of(live):
                self._round.extend((live, transport.type, producer) for producer in transport.producers.values())
                self._round.extend((live, transport.type, consumer) for consumer in transport.consumers.values())
        self._totals.keep({endpoint.id for _, _, endpoint in self._round}, set(self._supervisor.alive))

    async def _read_one(self, live: LiveWorker, transport_type: str, endpoint: Producer | Consumer) -> None:
        is_ready = live.probe.responsiveness.state(asyncio.get_running_loop().time()) == "ready"
        if endpoint.closed or not is_ready:
            return
        try:
            found = await endpoint.get_stats()
        except MafaldaError as error:  # it or its worker ended meanwhile
            log.debug("rtp not sampled", action="rtp_unsampled", worker_id=live.id, reason=str(error))
            return
        own = "inbound-rtp" if isinstance(endpoint, Producer) else "outbound-rtp"
        for stats in found:
            if stats["type"] == own:  # a consumer has its producer's too
                series = (live.id, transport_type, endpoint.kind, _DIRECTIONS[own])
                if self._totals.add(endpoint.id, series, stats):
                    self._record(series, stats)

    def _record(self, series: Series, stats: dict[str, Any]) -> None:
        round_trip_ms = float(stats.get("roundTripTime") or 0)
        attributes = self._attributes(series)
        del attributes["mafalda.worker"]  # a histogram is exported for as long as the process lives
        record_stream(
            attributes,
            loss_ratio=stats["fractionLost"] / 256,
            score=stats["score"],
            round_trip_s=round_trip_ms / 1000 if round_trip_ms > 0 else None,
        )

    def _observe(self, metric: str) -> Iterator[Observation]:
        for series, total in self._totals.read(metric):
            yield Observation(total, self._attributes(series))

    def _attributes(self, series: Series) -> dict[str, str]:
        worker, transport_type, kind, direction = series
        return {
            "mafalda.server": self._server,
            "mafalda.worker": worker,
            "mafalda.transport.type": transport_type,
            "mafalda.kind": kind,
            "network.io.direction": direction,
        }
