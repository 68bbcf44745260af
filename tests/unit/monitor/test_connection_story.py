"""What is said of a peer's connection at a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.events import LoadSampled, PeerMoved, StatisticsReported, WorkerDied
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.statistics import StreamStatistics, WayStatistics
from mafalda.monitor.connection_story import connection_story, describe
from mafalda.monitor.records import Record, record

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Log:
    """Entries at times."""

    def __init__(self) -> None:
        self.entries: list[Record] = []

    def add(self, after_s: float, subject: str, payload: Payload) -> None:
        message = compose(payload, subject=subject, source="/test").model_copy(
            update={"time": NOON + timedelta(seconds=after_s)}
        )
        self.entries.append(record(Delivery(subject=subject, data=encode(message), seq=len(self.entries) + 1)))

    def report(self, after_s: float, up: WayStatistics, *, peer: str = "ana", **given: Any) -> None:
        data = StatisticsReported(
            generation=1, server="s1", worker="s1-0", interval_s=5, ways=[up], cause="changed", **given
        )
        self.add(after_s, subjects.peer_event("lobby", peer, data.action), data)

    def load(self, after_s: float, **given: Any) -> None:
        worker = WorkerLoad(worker="s1-0", pid=1, channel_latency_s=given.pop("latency_s", 0.0002), **given)
        load = ServerLoad(server="s1", incarnation="i", interval_s=1, cpu_count=2, cpu_ratio=0.3, workers=[worker])
        self.add(after_s, subjects.server_event("s1", LoadSampled.action), LoadSampled(load=load))

    async def story(self, after_s: float, peer: str = "ana") -> list[str]:
        async def entries() -> AsyncIterator[Record]:
            for entry in self.entries:
                yield entry

        return list(describe(await connection_story(entries(), peer, NOON + timedelta(seconds=after_s))))


def up(loss: float, height: int, limitation: Any = "none", quality: Any = "excellent") -> WayStatistics:
    cam = StreamStatistics(
        producer="cam",
        media_kind="video",
        bitrate_bps=300_000,
        width=height * 16 // 9,
        height=height,
        frames_per_second=15,
        limitation=limitation,
    )
    return WayStatistics(
        way="up", quality=quality, bitrate_bps=340_000, loss_ratio=loss, round_trip_ms=85, streams=[cam]
    )


async def test_the_uplink_lost_packets_and_the_worker_was_fine() -> None:
    log = Log()
    log.report(0, up(0.002, 720))
    log.load(8, cpu_ratio=0.12)
    log.report(10, up(0.18, 180, "bandwidth", "poor"), scores={"cam": 4})
    log.report(60, up(0.0, 720))

    summary, _, way, cam, worker = await log.story(9)

    assert summary.endswith(
        "uplink lost 18 %, layer switched down (1280x720 to 320x180, limited by bandwidth), worker was fine"
    )
    assert "lost 18 % (0.2 % before)" in way
    assert "round trip 85 ms" in way
    assert "320x180 at 15 fps" in cam
    assert "score 4 of 10" in cam
    assert "12% of a core" in worker


async def test_an_overloaded_worker_is_named_although_nothing_was_lost() -> None:
    for slow in (
        {"cpu_ratio": 0.95},
        {"cpu_ratio": 0.1, "latency_s": 2.0},
        {"cpu_ratio": 0.1, "state": "unresponsive"},
    ):
        log = Log()
        log.report(10, up(0, 720))
        log.load(8, **slow)
        summary, *_ = await log.story(10)
        assert summary.endswith("uplink excellent, worker was overloaded"), slow


async def test_a_load_of_another_time_is_not_its_load() -> None:
    log = Log()
    log.load(0, cpu_ratio=0.95)
    log.report(40, up(0, 720))
    summary, *_ = await log.story(40)
    assert summary.endswith("worker's load unknown")


async def test_the_last_report_before_is_marked_as_that() -> None:
    log = Log()
    log.report(0, up(0.3, 720, quality="lost"))
    log.report(100, up(0, 720))
    summary, source, *_ = await log.story(50)
    assert "nothing arrived on the uplink" in summary
    assert source.endswith("(the last one before)")


async def test_others_are_not_told_of() -> None:
    log = Log()
    log.report(0, up(0.5, 180), peer="bob")
    assert await log.story(0) == ["ana at " + _clock(0) + ": its client reported no statistics until then"]


async def test_what_became_of_the_place_is_told() -> None:
    log = Log()
    log.report(0, up(0, 720))
    died = WorkerDied(server="s1", incarnation="i", worker="s1-0", signal="SIGKILL")
    log.add(20, subjects.server_event("s1", died.action), died)
    moved = PeerMoved(peer="ana", server="s2", worker="s2-0", generation=2, cause="worker-died")
    log.add(21, subjects.room_event("lobby", moved.action), moved)
    *_, first, second = await log.story(0)
    assert first == f"{_clock(20)} worker s1-0 died"
    assert second == f"{_clock(21)} moved to s2-0: worker-died"


def _clock(after_s: float) -> str:
    return (NOON + timedelta(seconds=after_s)).astimezone().strftime("%H:%M:%S")
