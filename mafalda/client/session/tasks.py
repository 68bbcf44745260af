"""Background tasks of one owner: named, watched, and gone when the owner is.

A ``TaskGroup`` would cancel the application's own code when one of ours fails; here the failure is
told to the owner instead, who ends the room with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Starts tasks; ``close`` cancels and awaits what is left."""

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work``. If it fails, ``on_failure`` is told."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        if self._closed:
            task.cancel()
        return task

    async def close(self) -> None:
        """Cancel all, and wait until they are gone. Our own caller's task is left alone."""
        self._closed = True
        while left := self._running - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._on_failure(error)


class Gone(Exception):
    """What was worked on is no longer there: begin again with what has taken its place."""


async def unless(gone: asyncio.Event, work: Coroutine[Any, Any, T], name: str) -> T:
    """Do ``work``, but drop it as soon as ``gone`` is set.

    Raises:
        Gone: It was set, before or meanwhile.
    """
    if gone.is_set():
        work.close()
        raise Gone
    task = asyncio.create_task(work, name=name)
    watch = asyncio.create_task(gone.wait(), name=f"{name}-gone")
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for other in (task, watch):
            other.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def first_set(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.create_task(event.wait(), name="first-set") for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
