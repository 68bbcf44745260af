"""Reports a peer's WebRTC statistics to its agent, as often as the agent wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import structlog

from mafalda.client.requests import PeerRequests
from mafalda.client.webrtc.statistics import StatisticsSampler, StreamReport
from mafalda.contract.messages.queries import ReportStatistics, StatisticsTaken
from mafalda.contract.messages.statistics import Way
from mafalda.errors import MafaldaError, PermissionDenied

_log = structlog.get_logger(__name__)
_FIRST_INTERVAL_S = 2.0
_MAX_INTERVAL_S = 600.0


async def report_statistics(
    requests: PeerRequests,
    generation: Callable[[], int],
    measure: Callable[[Way], Awaitable[Iterable[StreamReport]]],
) -> None:
    """Report, until cancelled.

    Args:
        requests: The peer's.
        generation: Of its place now.
        measure: The statistics of what is open on a way.
    """
    samplers: dict[Way, StatisticsSampler] = {"up": StatisticsSampler("up"), "down": StatisticsSampler("down")}
    clock, interval_s = requests.clock, _FIRST_INTERVAL_S
    before = clock.time()
    while True:
        await clock.sleep(interval_s)
        now, measured_at = clock.time(), generation()
        ways = [way for name, sampler in samplers.items() if (way := sampler.take(await measure(name), now))]
        took_s, before = now - before, now
        if not any(way.streams for way in ways) or not 0 < took_s <= _MAX_INTERVAL_S:
            continue
        report = ReportStatistics(generation=measured_at, interval_s=round(took_s, 3), ways=ways)
        try:
            interval_s = (await requests.query(report, StatisticsTaken)).interval_s
        except PermissionDenied as error:
            _log.warning("statistics are not reported", action="client_statistics", reason=str(error))
            return
        except MafaldaError as error:  # an outage, another place, or an agent of an earlier version
            _log.info("statistics not reported", action="client_statistics", reason=str(error))
