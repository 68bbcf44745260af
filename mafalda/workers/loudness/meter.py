"""Measures how loud the audio producers of one room on one worker are."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Self

from mafalda.mediasoup import AudioLevelObserver, Router
from mafalda.workers.core.loudness import NOTHING_DBOV, SILENT_DBOV

#: Of an observer.
_MAX_ENTRIES = 64
#: A worker counts a producer only if ten packets came in an interval (mediasoup's AudioLevelObserver.cpp). A second
#: observer measures those whose packets hold up to 60 ms of sound.
_LONG_INTERVAL_MS = 750


class LevelMeter:
    """Two observers of the same producers. Made by ``open``.

    Args:
        often: Measures at the configured interval.
        seldom: Measures at an interval in which also long packets are enough.
        on_levels: Called with the dBov of all producers that a measurement tells of.
    """

    def __init__(
        self, often: AudioLevelObserver, seldom: AudioLevelObserver, on_levels: Callable[[dict[str, int]], None]
    ) -> None:
        self._often = often
        self._seldom = seldom
        self._on_levels = on_levels
        self._observed: set[str] = set()
        #: Those that only ``seldom`` has heard last.
        self._slow: set[str] = set()
        often.on(often.VOLUMES, lambda volumes: self._take_often({it.producer.id: it.volume for it in volumes}))
        often.on(often.SILENCE, lambda _: self._take_often({}))
        seldom.on(seldom.VOLUMES, lambda volumes: self._take_seldom({it.producer.id: it.volume for it in volumes}))
        seldom.on(seldom.SILENCE, lambda _: self._take_seldom({}))
        self._heard: set[str] = set()  # by ``often``, since ``seldom`` told last

    @classmethod
    async def open(cls, router: Router, interval_ms: int, on_levels: Callable[[dict[str, int]], None]) -> Self:
        """Create the observers.

        Args:
            router: The room's on the worker.
            interval_ms: Between two measurements.
            on_levels: As of the class.

        Raises:
            MafaldaError: The worker refused, or is gone.
        """
        intervals = (interval_ms, max(interval_ms, _LONG_INTERVAL_MS))
        often, seldom = [
            await router.create_audio_level_observer(max_entries=_MAX_ENTRIES, threshold=SILENT_DBOV, interval=each)
            for each in intervals
        ]
        return cls(often, seldom, on_levels)

    @property
    def closed(self) -> bool:
        """Whether its router is closed, or it itself."""
        return self._often.closed

    async def add(self, producer: str) -> None:
        """Measure a producer, unless it is measured.

        Raises:
            MafaldaError: There is no such producer, or the worker is gone.
        """
        if producer not in self._observed:
            await self._often.add_producer(producer_id=producer)
            await self._seldom.add_producer(producer_id=producer)
            self._observed.add(producer)

    def forget(self, producer: str) -> None:
        """A producer has closed, and its observers have removed it."""
        self._observed.discard(producer)

    def retain(self, producers: Container[str]) -> None:
        """Forget all others."""
        self._observed = {it for it in self._observed if it in producers}

    async def close(self) -> None:
        """Close the observers.

        Raises:
            MafaldaError: The worker is gone.
        """
        await self._often.close()
        await self._seldom.close()

    def _take_often(self, levels: dict[str, int]) -> None:
        self._heard |= levels.keys()
        self._slow -= levels.keys()
        silent = self._observed - self._slow
        self._on_levels({**dict.fromkeys(silent, NOTHING_DBOV), **levels})

    def _take_seldom(self, levels: dict[str, int]) -> None:
        slow = {producer: level for producer, level in levels.items() if producer not in self._heard}
        ended = (self._slow & self._observed) - slow.keys()
        self._slow, self._heard = set(slow), set()
        if slow or ended:
            self._on_levels({**dict.fromkeys(ended, NOTHING_DBOV), **slow})
