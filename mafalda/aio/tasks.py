"""Task ownership: every background task has a name, an owner, and ends no later than its owner.

``asyncio.TaskGroup`` cancels the owner's own code and all sibling tasks when one task fails. An agent must not lose its
rooms, nor an application its own code, because one task failed; so a failure is passed to a callback instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
OnFailure = Callable[[str, Exception], None]

_log = structlog.get_logger("mafalda.aio")


def log_failure(name: str, error: Exception) -> None:
    """Log a failed task with its traceback."""
    _log.error("task failed", action="task_failed", task=name, exc_info=error)


class TaskScope:
    """Owns background tasks until ``close``.

    Args:
        on_failure: Called with the name and the exception of each task that fails.
    """

    def __init__(self, on_failure: OnFailure = log_failure) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start ``work`` as a task. After ``close`` it is cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        task.add_done_callback(lambda _: work.close())  # a task that was cancelled before its first step leaves it open
        if self._is_closed:
            task.cancel()
        return task

    async def close(self, grace_s: float = 0.0) -> None:
        """Cancel what is left after ``grace_s`` seconds and wait for its end. The calling task itself is spared."""
        self._is_closed = True
        if grace_s and (others := self._others()):
            await asyncio.wait(others, timeout=grace_s)
        while others := self._others():
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def _others(self) -> set[asyncio.Task[Any]]:
        return self._tasks - {asyncio.current_task()}

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._on_failure(task.get_name(), error)


@asynccontextmanager
async def open_tasks(on_failure: OnFailure = log_failure) -> AsyncIterator[TaskScope]:
    """A ``TaskScope`` that lives as long as the block."""
    tasks = TaskScope(on_failure)
    try:
        yield tasks
    finally:
        await tasks.close()


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work`` beside the block; cancelled and awaited at its end.

    A failure of ``work`` is logged when it happens, and raised at the end if the block itself succeeded.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report)
    try:
        yield task
    except BaseException:
        await cancel_and_wait(task)
        raise
    await cancel_and_wait(task)
    if not task.cancelled() and (error := task.exception()):
        raise error


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines side by side; their results in order. ``asyncio.gather`` leaves the others running if one fails.

    Raises:
        Exception: The first that was raised; the other coroutines are cancelled and have ended by then.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await cancel_and_wait(*(task for task in tasks if not task.done()))


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end, whatever it is; their owners read the results."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        log_failure(task.get_name(), error)
