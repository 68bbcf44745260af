"""The tasks that one worker's objects start: named, and cancelled and awaited by their owner.

What does not belong here: what the tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger("mafalda.mediasoup")


class Tasks:
    """Owns tasks until ``finish``. What they raise is logged: nobody awaits them for their result."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished = False

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Run ``work`` as a task; after ``finish`` it is not started any more."""
        if self._finished:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(_guard(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # if it was cancelled before its first step

    async def finish(self, grace_s: float) -> None:
        """Give the tasks ``grace_s`` to end, cancel what is left, await it. The caller's own task is spared."""
        self._finished = True
        others = self._tasks - {asyncio.current_task()}
        if not others:
            return
        _, late = await asyncio.wait(others, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.gather(*late, return_exceptions=True)


async def _guard(work: Coroutine[Any, Any, object], name: str) -> None:
    try:
        await work
    except Exception:
        log.exception("listener failed", action="listener_failed", task=name)
