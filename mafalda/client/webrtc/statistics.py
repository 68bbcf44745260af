"""What aiortc's ``getStats`` says of both ways over an interval, in the words of the contract. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mafalda.client.quality import quality_of
from mafalda.contract.messages.statistics import MAX_STREAMS, StreamStatistics, Way, WayStatistics
from mafalda.media.rtp import MediaKind

#: aiortc gives jitter in units of the RTP clock, in Hz.
_CLOCK_HZ = {"audio": 48_000, "video": 90_000}


@dataclass(frozen=True, slots=True)
class StreamReport:
    """aiortc's statistics of one sender or receiver, by their ids.

    Args:
        producer: What it sends or receives.
        kind: Of its media.
        stats: ``RTCStatsReport``.
    """

    producer: str
    kind: MediaKind
    stats: Mapping[str, Any]

    def find(self, type: str) -> Any:
        """The entry of a type; ``None``: there is none."""
        return next((it for it in self.stats.values() if it.type == type), None)


@dataclass(frozen=True, slots=True)
class _Counters:
    packets: int = 0
    lost: int = 0
    bytes: int = 0

    def since(self, before: _Counters) -> _Counters:
        return _Counters(
            max(0, self.packets - before.packets), max(0, self.lost - before.lost), max(0, self.bytes - before.bytes)
        )


class StatisticsSampler:
    """Compares the reports of one way with those before.

    Args:
        way: Which of the two.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._counters: dict[str, _Counters] = {}
        self._transport_bytes: dict[str, int] = {}
        self._at: float | None = None

    def take(self, reports: Iterable[StreamReport], now: float) -> WayStatistics | None:
        """The way's figures since the last call; ``None`` at the first one.

        Args:
            reports: Of all that is open on the way.
            now: Seconds, monotonic.
        """
        known, found = self._counters, list(reports)
        self._counters = {it.producer: self._count(it) for it in found}
        seconds = 0.0 if self._at is None else now - self._at
        self._at = now
        received_bytes = self._received_bytes(found)
        if seconds <= 0:
            return None
        spent = {it.producer: self._spent(it, known.get(it.producer, _Counters())) for it in found}
        streams = [self._stream(it, spent[it.producer], seconds) for it in found]
        sent_bytes = sum(it.bytes for it in spent.values())
        total = _Counters(sum(it.packets for it in spent.values()), sum(it.lost for it in spent.values()))
        loss = self._loss(total)
        trips = [
            far.roundTripTime * 1000 for it in found if (far := it.find("remote-inbound-rtp")) and far.roundTripTime
        ]
        trip = round(max(trips)) if trips else None
        jitters = [it.jitter_ms for it in streams if it.jitter_ms is not None]
        return WayStatistics(
            way=self._way,
            quality=quality_of(loss_ratio=loss, round_trip_ms=trip),
            bitrate_bps=int((sent_bytes if self._way == "up" else received_bytes) * 8 / seconds),
            loss_ratio=loss,
            jitter_ms=max(jitters, default=None),
            round_trip_ms=trip,
            streams=sorted(streams, key=lambda it: -(it.bitrate_bps or 0))[:MAX_STREAMS],
        )

    def _spent(self, report: StreamReport, before: _Counters) -> _Counters:
        spent = self._counters[report.producer].since(before)
        far = report.find("remote-inbound-rtp") if self._way == "up" else None
        if far is None:
            return spent
        # The worker reports every 1 s for video, every 5 s for audio: its last fraction, of 256, holds until the next.
        return replace(spent, lost=round(spent.packets * far.fractionLost / 256))

    def _count(self, report: StreamReport) -> _Counters:
        if self._way == "up":
            sent = report.find("outbound-rtp")
            return _Counters(sent.packetsSent, 0, sent.bytesSent) if sent else _Counters()
        received = report.find("inbound-rtp")
        return _Counters(received.packetsReceived, received.packetsLost) if received else _Counters()

    def _received_bytes(self, reports: Iterable[StreamReport]) -> int:
        """Bytes that the transports of the reports received; aiortc does not count those of each stream."""
        before = self._transport_bytes
        transports = [transport for it in reports if (transport := it.find("transport"))]
        self._transport_bytes = {it.id: it.bytesReceived for it in transports}
        return sum(max(0, count - before.get(id, 0)) for id, count in self._transport_bytes.items())

    def _stream(self, report: StreamReport, spent: _Counters, seconds: float) -> StreamStatistics:
        measured = report.find("remote-inbound-rtp" if self._way == "up" else "inbound-rtp")
        return StreamStatistics(
            producer=report.producer,
            media_kind=report.kind,
            bitrate_bps=int(spent.bytes * 8 / seconds) if self._way == "up" else None,
            loss_ratio=self._loss(spent),
            jitter_ms=round(measured.jitter * 1000 / _CLOCK_HZ[report.kind]) if measured else None,
        )

    def _loss(self, spent: _Counters) -> float | None:
        sent = spent.packets if self._way == "up" else spent.packets + spent.lost
        return round(min(1.0, spent.lost / sent), 3) if sent else None
