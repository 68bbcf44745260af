"""How good a connection is. Pure; ``docs/protocol.md`` has the same table, and so has the browser SDK."""

from __future__ import annotations

from mafalda.contract.messages.statistics import Quality


def quality_of(*, loss_ratio: float | None = None, round_trip_ms: float | None = None, score: int = 10) -> Quality:
    """The quality of a way: the worst of what is known decides.

    Args:
        loss_ratio: Part of the packets that were lost.
        round_trip_ms: Milliseconds.
        score: mediasoup's, 0 to 10.
    """
    loss, round_trip = loss_ratio or 0.0, round_trip_ms or 0.0
    if loss >= 0.5 or score <= 0:
        return "lost"
    if loss >= 0.05 or round_trip >= 400 or score < 6:
        return "poor"
    if loss >= 0.01 or round_trip >= 150 or score < 9:
        return "good"
    return "excellent"
