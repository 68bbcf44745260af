"""Tasks with an owner. What does not belong here: what the tasks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work`` beside the block; cancelled and awaited at its end.

    Unlike a ``TaskGroup`` it leaves the block's own errors unwrapped. A failure of ``work`` is logged when it
    happens, and raised at the end if the block itself succeeded.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report)
    try:
        yield task
    except BaseException:
        await stop(task)
        raise
    await stop(task)
    if not task.cancelled() and (error := task.exception()):
        raise error


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end, whatever it is; their owners read the results."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("task-failed", action="task-failed", task=task.get_name(), exc_info=error)
