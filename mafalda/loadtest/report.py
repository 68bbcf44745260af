"""What a load test found: figures of all peers, and the reasons of those that failed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a set of durations, in milliseconds; ``None`` where the set is empty."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


def percentiles_ms(durations_s: Sequence[float]) -> Percentiles:
    """Percentiles of durations in seconds, as milliseconds."""
    if not len(durations_s):
        return Percentiles()
    p50, p95, p99, highest = (round(float(it) * 1000, 2) for it in np.percentile(durations_s, (50, 95, 99, 100)))
    return Percentiles(p50, p95, p99, highest)


@dataclass(frozen=True, slots=True)
class PeerCounts:
    """Peers of one kind. ``replaced`` left as churn and were replaced by new ones, which count as started."""

    started: int = 0
    joined: int = 0
    failed: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class MediaFigures:
    """What viewers received since the beginning; ``…_per_s`` over the measured interval.

    ``dropped_here`` were lost on the load test's own machine, because it did not read them in time: they are no loss of
    the SFU's, though they are in ``lost``.
    """

    streams: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    loss_ratio: float = 0.0
    out_of_order: int = 0
    dropped_here: int = 0
    unknown: int = 0
    packets_per_s: float = 0.0
    bits_per_s: float = 0.0
    jitter_ms: Percentiles = field(default_factory=Percentiles)
    latency_ms: Percentiles = field(default_factory=Percentiles)
    decrypted: int = 0
    decrypt_failures: int = 0


@dataclass(frozen=True, slots=True)
class ConversationFigures:
    """Whether participants heard who spoke.

    Attributes:
        turns: Over all rooms.
        unheard: Pairs of a listener and a speaker without any packet in a whole turn.
        delay_ms: From the beginning of a turn until a listener received the first packet of a new speaker.
    """

    turns: int = 0
    unheard: int = 0
    delay_ms: Percentiles = field(default_factory=Percentiles)


@dataclass(frozen=True, slots=True)
class OwnCost:
    """What the load test itself used over the measured interval. ``cpu_ratio`` 1 is one core."""

    cpu_ratio: float = 0.0
    cpu_us_per_packet: float | None = None
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The figures as of a moment. ``failures``: how many peers failed for each reason."""

    phase: str
    elapsed_s: float
    measured_s: float
    publishers: PeerCounts
    viewers: PeerCounts
    participants: PeerCounts
    join_ms: Percentiles
    first_packet_ms: Percentiles
    media: MediaFigures
    conversation: ConversationFigures
    own: OwnCost
    viewers_by_server: dict[str, int]
    failures: dict[str, int]
    joining_took_s: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every peer did what it should, and heard who spoke."""
        return not self.failures and not self.media.decrypt_failures and not self.conversation.unheard

    def to_json_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {"ok": self.passed, **asdict(self)}


def count_failures(reasons: Sequence[str | None]) -> dict[str, int]:
    """How often each reason occurs, the most frequent first."""
    return dict(Counter(reason for reason in reasons if reason is not None).most_common())
