"""Which reports of a client's statistics are appended."""

from __future__ import annotations

import itertools
from typing import Any

from mafalda.contract.messages.statistics import StreamStatistics, WayStatistics
from mafalda.workers.core.statistics import MIN_INTERVAL_S, StatisticsJournal


def ways(quality: Any = "excellent", height: int = 720, received: int = 720) -> list[WayStatistics]:
    def video(producer: str, height: int) -> StreamStatistics:
        return StreamStatistics(producer=producer, media_kind="video", bitrate_bps=1, height=height)

    return [
        WayStatistics(way="down", quality="good", bitrate_bps=1, streams=[video("bob-cam", received)]),
        WayStatistics(way="up", quality=quality, bitrate_bps=1, streams=[video("cam", height)]),
    ]


def test_nothing_new_is_appended_at_intervals() -> None:
    journal = StatisticsJournal(interval_s=60)
    causes = [journal.take(ways(), now) for now in range(0, 125, 5)]
    assert [number * 5 for number, cause in enumerate(causes) if cause] == [0, 60, 120]
    assert set(causes) == {"interval", None}


def test_a_change_is_appended() -> None:
    for change in (ways("poor"), ways(height=180)):
        journal = StatisticsJournal(interval_s=60)
        journal.take(ways(), 0)
        assert journal.take(change, 10) == "changed"
        assert journal.take(change, 20) is None
        assert journal.take(ways(), 30) == "changed"


def test_the_size_of_a_window_is_no_change() -> None:
    journal = StatisticsJournal(interval_s=60)
    journal.take(ways(), 0)
    assert journal.take(ways(received=180), 10) is None


def test_a_flood_of_changes_adds_little() -> None:
    journal = StatisticsJournal(interval_s=60)
    appended = [now for now in range(100) if journal.take(ways("poor" if now % 2 else "good"), float(now))]
    assert all(later - earlier >= MIN_INTERVAL_S for earlier, later in itertools.pairwise(appended))
    assert len(appended) > 10


def test_a_change_within_the_least_interval_is_appended_after_it() -> None:
    journal = StatisticsJournal(interval_s=60)
    journal.take(ways(), 0)
    assert journal.take(ways("lost"), 1) is None
    assert journal.take(ways("lost"), 6) == "changed"
