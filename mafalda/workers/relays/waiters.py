"""Consumes that wait for a relay.

What does not belong here: what they do afterwards (``consuming``), the relays (``mirrors``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mafalda.errors import MafaldaError, NotFound
from mafalda.projection.state import RoomState
from mafalda.workers.core.instructions import RelayKey


class Waiting:
    """Who waits for which mirror. Nothing of a failure is kept but for wishes from before it.

    Args:
        usable: Whether a mirror can be consumed now.
    """

    def __init__(self, usable: Callable[[RelayKey], object | None]) -> None:
        self._usable = usable
        self._waiting: dict[RelayKey, set[asyncio.Future[None]]] = {}
        self._refused: dict[RelayKey, tuple[int, MafaldaError]] = {}

    async def wait(self, key: RelayKey, deadline: float, *, since_seq: int) -> None:
        """Wait until the mirror can be consumed.

        Args:
            key: Which one.
            deadline: The loop's time.
            since_seq: The log sequence of the wish: a relay that was ordered later and failed already was for it.

        Raises:
            RelayFailed: It could not be opened.
            NotFound: The producer has closed meanwhile.
            TimeoutError: Neither happened in time.
        """
        if self._usable(key):
            return
        refused_seq, error = self._refused.get(key, (0, None))
        if error is not None and refused_seq > since_seq:
            raise error
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(key, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiting.get(key) is waiters:
                del self._waiting[key]

    def wake(self, key: RelayKey) -> None:
        """The mirror is open."""
        for waiter in self._waiting.pop(key, set()):
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, key: RelayKey, error: MafaldaError) -> None:
        """It will not open, for those who wait now."""
        for waiter in self._waiting.pop(key, set()):
            if not waiter.done():
                waiter.set_exception(error)

    def refuse(self, key: RelayKey, seq: int, error: MafaldaError) -> None:
        """The order with this sequence came to nothing, for those who wait and for older wishes that come late."""
        self._refused[key] = (seq, error)
        self.fail(key, error)

    def hope(self, key: RelayKey) -> None:
        """There is a newer order."""
        self._refused.pop(key, None)

    def check(self, room: str, state: RoomState | None) -> None:
        """Tell those who wait for a producer that has closed."""
        for key in [key for key in self._waiting if key.room == room]:
            if state is None or key.producer not in state.producers:
                self.fail(key, NotFound("the producer has closed", producer=key.producer))

    def room_gone(self, room: str) -> None:
        """Nothing of the room is here any more."""
        self._refused = {key: refused for key, refused in self._refused.items() if key.room != room}
