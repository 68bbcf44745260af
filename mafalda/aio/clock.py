"""A monotonic clock that can be stopped, and deadlines, timers and sleeps in its time.

A deadline for an answer means nothing while nobody can be reached: whoever waits over the bus counts the time in which
the bus worked. Each bus has one such clock (``Bus.clock``); what waits on it needs no knowledge of outages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any


class ClockTimer:
    """One call of ``PausableClock.call_at``."""

    def __init__(self, clock: PausableClock, when: float, call: Callable[[], Any]) -> None:
        self.when = when
        self._clock = clock
        self._call = call
        self._handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Do not call. After the call this does nothing."""
        self._clock.forget(self)
        self.suspend()

    def suspend(self) -> None:
        """The clock stands still."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def arm(self) -> None:
        """The clock runs."""
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(max(self.when - self._clock.time(), 0.0), self._fire)

    def _fire(self) -> None:
        self._clock.forget(self)
        self._call()


class PausableClock:
    """Seconds that pass only while no reason to stand still is given. It runs at first. Use it within one loop."""

    def __init__(self) -> None:
        self._reasons: set[Hashable] = set()
        self._stopped_at: float | None = None  # in the loop's time
        self._stood_still_s = 0.0
        self._timers: dict[ClockTimer, None] = {}
        #: How often the clock was stopped.
        self.stops = 0

    @property
    def is_running(self) -> bool:
        """Whether time passes."""
        return self._stopped_at is None

    def time(self) -> float:
        """Monotonic seconds."""
        now = asyncio.get_running_loop().time() if self._stopped_at is None else self._stopped_at
        return now - self._stood_still_s

    def stop(self, reason: Hashable) -> None:
        """Stand still until this reason, and every other one, is taken back by ``resume``."""
        self._reasons.add(reason)
        if self._stopped_at is None:
            self._stopped_at = asyncio.get_running_loop().time()
            self.stops += 1
            for timer in self._timers:
                timer.suspend()

    def resume(self, reason: Hashable) -> None:
        """Take a reason back. The clock goes on from where it stood."""
        self._reasons.discard(reason)
        if self._reasons or self._stopped_at is None:
            return
        self._stood_still_s += asyncio.get_running_loop().time() - self._stopped_at
        self._stopped_at = None
        for timer in self._timers:
            timer.arm()

    def call_at(self, when: float, call: Callable[[], Any]) -> ClockTimer:
        """Call ``call`` at a time of this clock, unless the timer is cancelled before."""
        timer = ClockTimer(self, when, call)
        self._timers[timer] = None
        if self.is_running:
            timer.arm()
        return timer

    def forget(self, timer: ClockTimer) -> None:
        """A timer has fired or is cancelled."""
        self._timers.pop(timer, None)

    async def sleep(self, seconds: float) -> None:
        """Return when so much time has passed on this clock."""
        slept = asyncio.Event()
        timer = self.call_at(self.time() + seconds, slept.set)
        try:
            await slept.wait()
        finally:
            timer.cancel()

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[None]:
        """As ``asyncio.timeout``, in the time of this clock."""
        return self.timeout_at(None if seconds is None else self.time() + seconds)

    @asynccontextmanager
    async def timeout_at(self, when: float | None) -> AsyncIterator[None]:
        """As ``asyncio.timeout_at``, in the time of this clock.

        Raises:
            TimeoutError: The block was cancelled because the time was over.
        """
        async with asyncio.timeout(None) as limit:
            timer = None
            if when is not None:
                timer = self.call_at(when, lambda: limit.reschedule(asyncio.get_running_loop().time()))
            try:
                yield
            finally:
                if timer is not None:
                    timer.cancel()
