"""The agent's tasks: named, guarded, cancelled and awaited by their owner.

A task that fails is a bug of ours or a broken outside; it is logged with its traceback and takes nobody with it.
What does not belong here: loops without which the agent is no agent (``agent`` runs those unguarded).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.get_logger("mafalda.workers")


class Tasks:
    """Owns tasks until ``finish``; made by ``own_tasks``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing = False

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[None]:
        """Run ``work`` guarded; the task ends without an error whatever happens. At the end nothing is begun."""
        if self._finishing:
            work.close()
            work = asyncio.sleep(0)
        task = asyncio.get_running_loop().create_task(_guard(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # if it was cancelled before it began
        return task

    async def finish(self) -> None:
        """Cancel all and wait for their end."""
        self._finishing = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def own_tasks() -> AsyncIterator[Tasks]:
    """Tasks that live as long as the block."""
    tasks = Tasks()
    try:
        yield tasks
    finally:
        await tasks.finish()


async def _guard(work: Coroutine[Any, Any, object], name: str) -> None:
    try:
        await work
    except Exception:
        log.exception("task failed", action="task_failed", task=name)
