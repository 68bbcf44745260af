"""Bitrates of a worker, summed from the statistics of its transports, a few of them at a time.

They are read beside the load reports, one reading per worker at a time: a worker that does not answer keeps its last
figures, and delays nobody.
"""

from __future__ import annotations

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.errors import MafaldaError
from mafalda.mediasoup import Transport
from mafalda.workers.supervision.supervisor import LiveWorker

#: Transports of each worker whose statistics are read at a time.
SAMPLED_TRANSPORTS = 8
log = structlog.get_logger("mafalda.workers")


def transports_of(live: LiveWorker) -> list[Transport]:
    """All open transports of a worker."""
    return [transport for router in live.worker.routers.values() for transport in router.transports.values()]


class BitrateSampler:
    """The bitrates of one worker.

    Args:
        tasks: Runs the readings.
        live: The worker.
    """

    def __init__(self, tasks: TaskScope, live: LiveWorker) -> None:
        self._tasks = tasks
        self._live = live
        self._bps: dict[str, tuple[float, float]] = {}  # transport: received, sent
        self._next_transport = 0
        self._is_reading = False

    @property
    def receive_bps(self) -> float:
        """Bits per second received, over all transports."""
        return sum(received for received, _ in self._bps.values())

    @property
    def send_bps(self) -> float:
        """Bits per second sent, over all transports."""
        return sum(sent for _, sent in self._bps.values())

    def begin(self) -> None:
        """Read the next few transports, in rotation, unless the last reading still waits for its answers."""
        if not self._is_reading:
            self._is_reading = True
            self._tasks.spawn(self._read(), f"bitrates of {self._live.id}")

    async def _read(self) -> None:
        try:
            await self._read_next()
        except MafaldaError as error:  # it is dying, or too busy to answer
            log.debug("bitrates not read", action="bitrates_unread", worker_id=self._live.id, reason=str(error))
        finally:
            self._is_reading = False

    async def _read_next(self) -> None:
        transports = transports_of(self._live)
        here = {transport.id for transport in transports}
        self._bps = {id: bps for id, bps in self._bps.items() if id in here}
        count = min(SAMPLED_TRANSPORTS, len(transports))
        for offset in range(count):
            transport = transports[(self._next_transport + offset) % len(transports)]
            if transport.closed:
                continue
            for stats in await transport.get_stats():
                self._bps[transport.id] = (float(stats["recvBitrate"]), float(stats["sendBitrate"]))
        if transports:
            self._next_transport = (self._next_transport + count) % len(transports)
