"""Resources that several users share: made at the first use, closed after the last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mafalda.aio.tasks import TaskScope

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Shared(Generic[R]):
    making: asyncio.Future[R]
    users: set[Hashable] = field(default_factory=set)

    @property
    def made(self) -> R | None:
        """The resource, once it is made."""
        making = self.making
        done = making.done() and not making.cancelled() and making.exception() is None
        return making.result() if done else None


class SharedResources(Generic[K, R]):
    """One resource for each key, with the set of its users.

    A failure to make one reaches every user who waits for it, and the next user tries again. A resource is made only
    after the one that its key had before is closed.

    Args:
        tasks: Where resources are made and closed.
        make: Makes the resource of a key.
        close: Closes a resource that nobody uses any more.
    """

    def __init__(
        self, tasks: TaskScope, make: Callable[[K], Awaitable[R]], close: Callable[[K, R], Awaitable[None]]
    ) -> None:
        self._tasks = tasks
        self._make = make
        self._close = close
        self._shared: dict[K, _Shared[R]] = {}
        self._closing: dict[K, asyncio.Task[None]] = {}

    def get(self, key: K) -> R | None:
        """The resource of a key, if it is made."""
        shared = self._shared.get(key)
        return shared.made if shared else None

    def items(self) -> list[tuple[K, R]]:
        """Every resource that is made, by its key."""
        return [(key, made) for key, shared in self._shared.items() if (made := shared.made) is not None]

    async def acquire(self, key: K, user: Hashable) -> R:
        """The resource of a key, for as long as ``user`` does not release it.

        Raises:
            Exception: Whatever ``make`` raised; ``user`` holds nothing then.
        """
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(asyncio.get_running_loop().create_future())
            self._begin(key, shared.making)
        shared.users.add(user)
        try:
            return await asyncio.shield(shared.making)
        except BaseException:
            self._leave(key, shared, user)
            raise

    def release(self, key: K, user: Hashable) -> None:
        """``user`` needs the resource no more; a user who does not hold it changes nothing."""
        if shared := self._shared.get(key):
            self._leave(key, shared, user)

    def _begin(self, key: K, making: asyncio.Future[R]) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            if not making.done():  # cancelled with the tasks
                making.cancel()

        making.add_done_callback(_retrieve)
        work = self._make_into(key, making, self._closing.get(key))
        self._tasks.spawn(work, f"make {key}").add_done_callback(ended)

    async def _make_into(self, key: K, making: asyncio.Future[R], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            made = await self._make(key)
        except Exception as error:
            making.set_exception(error)
        else:
            making.set_result(made)

    def _leave(self, key: K, shared: _Shared[R], user: Hashable) -> None:
        shared.users.discard(user)
        if shared.users or self._shared.get(key) is not shared:
            return
        del self._shared[key]
        closing = self._tasks.spawn(self._close_made(key, shared), f"close {key}")
        self._closing[key] = closing
        closing.add_done_callback(lambda task: self._closed(key, task))

    async def _close_made(self, key: K, shared: _Shared[R]) -> None:
        await asyncio.wait([shared.making])
        if (made := shared.made) is not None:
            await self._close(key, made)

    def _closed(self, key: K, closing: asyncio.Task[None]) -> None:
        if self._closing.get(key) is closing:
            del self._closing[key]


def _retrieve(making: asyncio.Future[Any]) -> None:
    """Users who wait get the failure themselves; without any, nobody needs it."""
    if not making.cancelled():
        making.exception()
