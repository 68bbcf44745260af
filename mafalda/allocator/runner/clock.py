"""The clock of an allocator; tests replace it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mafalda.bus.protocol import Bus


class Clock(Protocol):
    """Monotonic seconds, and a sleep in those seconds."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class BusClock:
    """The time of a bus, which stands still while there is no bus: nothing that is known ages meanwhile.

    ``sleep`` goes on, for what finds out whether there is a bus.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def now(self) -> float:
        return self._bus.clock.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
