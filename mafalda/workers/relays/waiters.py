"""Consumes that wait for a relay target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from mafalda.errors import MafaldaError, NotFound
from mafalda.projection.state import RoomState
from mafalda.workers.core.instructions import RelayKey


@dataclass(slots=True)
class _Waiters:
    """Of one relay target. ``refused`` is the log sequence of the last order that failed, and its error."""

    waiting: set[asyncio.Future[None]] = field(default_factory=set)
    refused: tuple[int, MafaldaError] | None = None


class RelayWaiters:
    """Who waits for which relay target.

    A failed order is remembered until the next one, for consumes that were requested before it and are handled late.

    Args:
        is_open: Whether a relay target can be consumed now.
    """

    def __init__(self, is_open: Callable[[RelayKey], bool]) -> None:
        self._is_open = is_open
        self._by_key: dict[RelayKey, _Waiters] = {}

    async def wait(self, key: RelayKey, deadline: float, *, since_seq: int) -> None:
        """Wait until the relay target can be consumed.

        Args:
            key: Which one.
            deadline: In the loop's time.
            since_seq: The log sequence of the consume. An order after it that has failed already was for this consume.

        Raises:
            RelayUnavailable: It could not be opened.
            NotFound: The producer has closed meanwhile.
            TimeoutError: Neither happened in time.
        """
        if self._is_open(key):
            return
        waiters = self._by_key.setdefault(key, _Waiters())
        if waiters.refused is not None and waiters.refused[0] > since_seq:
            raise waiters.refused[1]
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.waiting.add(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        finally:
            waiters.waiting.discard(waiter)
            self._drop_if_empty(key)

    def is_waiting(self, key: RelayKey) -> bool:
        """Whether somebody waits for a relay target."""
        return bool(self._take(key))

    def opened(self, key: RelayKey) -> None:
        """Let those go on who wait for a relay target."""
        for waiter in self._take(key):
            waiter.set_result(None)

    def reject(self, key: RelayKey, error: MafaldaError) -> None:
        """Reject those who wait now."""
        for waiter in self._take(key):
            waiter.set_exception(error)

    def refuse(self, key: RelayKey, seq: int, error: MafaldaError) -> None:
        """The order with this log sequence has failed: reject those who wait, and older consumes that come late."""
        self._by_key.setdefault(key, _Waiters()).refused = (seq, error)
        self.reject(key, error)

    def ordered(self, key: RelayKey) -> None:
        """There is a newer order: forget the failed one."""
        if waiters := self._by_key.get(key):
            waiters.refused = None
            self._drop_if_empty(key)

    def check(self, room: str, state: RoomState | None) -> None:
        """Reject those who wait for a producer that the room does not have."""
        for key in [key for key in self._by_key if key.room == room]:
            if state is None or key.producer not in state.producers:
                self.reject(key, NotFound("the producer has closed", producer=key.producer))

    def room_gone(self, room: str) -> None:
        """Forget the failed orders of a room that has nothing here."""
        for key in [key for key in self._by_key if key.room == room]:
            self.ordered(key)

    def _take(self, key: RelayKey) -> list[asyncio.Future[None]]:
        waiters = self._by_key.get(key)
        return [waiter for waiter in waiters.waiting if not waiter.done()] if waiters else []

    def _drop_if_empty(self, key: RelayKey) -> None:
        waiters = self._by_key.get(key)
        if waiters is not None and not waiters.waiting and waiters.refused is None:
            del self._by_key[key]
