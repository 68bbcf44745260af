"""What is made of aiortc's statistics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mafalda.client.quality import quality_of
from mafalda.client.webrtc.statistics import StatisticsSampler, StreamReport


def sent(producer: str, packets: int, lost: float, *, trip: float | None = 0.085) -> StreamReport:
    return report(
        producer,
        SimpleNamespace(type="outbound-rtp", packetsSent=packets, bytesSent=packets * 500),
        SimpleNamespace(type="remote-inbound-rtp", fractionLost=round(lost * 256), jitter=900, roundTripTime=trip),
    )


def received(producer: str, packets: int, lost: int, transport_bytes: int) -> StreamReport:
    return report(
        producer,
        SimpleNamespace(type="inbound-rtp", packetsReceived=packets, packetsLost=lost, jitter=450),
        SimpleNamespace(type="transport", id="t", bytesReceived=transport_bytes),
    )


def report(producer: str, *entries: Any) -> StreamReport:
    return StreamReport(producer, "video", {str(number): entry for number, entry in enumerate(entries)})


def test_what_is_sent_since_the_last_time() -> None:
    sampler = StatisticsSampler("up")
    assert sampler.take([sent("cam", 1000, 0)], 10) is None
    way = sampler.take([sent("cam", 1200, 0.18), sent("screen", 200, 0)], 12)
    assert way is not None
    assert (way.loss_ratio, way.quality, way.round_trip_ms, way.jitter_ms) == (0.09, "poor", 85, 10)
    assert way.bitrate_bps == 800_000
    assert [(it.producer, it.loss_ratio) for it in way.streams] == [("cam", 0.18), ("screen", 0.0)]


def test_what_is_received_has_the_bitrate_of_its_transport_once() -> None:
    sampler = StatisticsSampler("down")
    sampler.take([received("cam", 100, 0, 1_000), received("mic", 0, 0, 1_000)], 0)
    way = sampler.take([received("cam", 190, 10, 126_000), received("mic", 0, 0, 126_000)], 1)
    assert way is not None
    assert (way.bitrate_bps, way.loss_ratio, way.jitter_ms) == (1_000_000, 0.1, 5)
    assert [it.bitrate_bps for it in way.streams] == [None, None]
    assert way.streams[1].loss_ratio is None, "nothing came, nothing is known to be lost"


def test_a_sender_of_which_nothing_was_told_yet() -> None:
    sampler = StatisticsSampler("up")
    entry = SimpleNamespace(type="outbound-rtp", packetsSent=10, bytesSent=1000)
    sampler.take([report("cam", entry)], 0)
    way = sampler.take([report("cam", entry)], 1)
    assert way is not None
    assert (way.loss_ratio, way.round_trip_ms, way.quality) == (None, None, "excellent")
    assert StatisticsSampler("up").take([], 0) is None


@pytest.mark.parametrize(
    ("figures", "quality"),
    [
        ({}, "excellent"),
        ({"loss_ratio": 0.009, "round_trip_ms": 149, "score": 9}, "excellent"),
        ({"loss_ratio": 0.01}, "good"),
        ({"round_trip_ms": 150}, "good"),
        ({"score": 8}, "good"),
        ({"loss_ratio": 0.05}, "poor"),
        ({"round_trip_ms": 400}, "poor"),
        ({"score": 5}, "poor"),
        ({"loss_ratio": 0.5}, "lost"),
        ({"score": 0}, "lost"),
    ],
)
def test_qualities_are_those_of_the_browser_sdk(figures: dict[str, Any], quality: str) -> None:
    assert quality_of(**figures) == quality
