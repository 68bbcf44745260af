"""Which of the reports of a client's WebRTC statistics are appended to the log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mafalda.contract.messages.statistics import WayStatistics

#: Seconds between two entries of one peer, however much changes.
MIN_INTERVAL_S = 5.0

_Shape = tuple[object, ...]


@dataclass(slots=True)
class StatisticsJournal:
    """The reports of one peer: each is compared with the one that was appended last.

    Args:
        interval_s: A report is appended so many seconds after the last one, even if nothing has changed.
    """

    interval_s: float
    _appended_at: float | None = None
    _shape: _Shape = ()

    def take(self, ways: Sequence[WayStatistics], now: float) -> Literal["interval", "changed"] | None:
        """Take a report; why it is to be appended, ``None`` if it is not.

        Args:
            ways: What the client measured.
            now: Seconds, monotonic.
        """
        shape = _shape(ways)
        age_s = float("inf") if self._appended_at is None else now - self._appended_at
        if age_s >= self.interval_s:
            cause: Literal["interval", "changed"] = "interval"
        elif shape != self._shape and age_s >= MIN_INTERVAL_S:
            cause = "changed"
        else:
            return None
        self._appended_at, self._shape = now, shape
        return cause


def _shape(ways: Sequence[WayStatistics]) -> _Shape:
    """What makes a report differ much: the quality of a way, and how what is sent is limited.

    What is received in another resolution is not counted: that follows the size of windows.
    """
    found: list[object] = []
    for way in sorted(ways, key=lambda way: way.way):
        found.append((way.way, way.quality))
        if way.way == "up":
            found += sorted(
                (stream.producer, stream.height, stream.encodings, stream.limitation)
                for stream in way.streams
                if stream.media_kind == "video"
            )
    return tuple(found)
