"""Jobs of one key one after the other, jobs of different keys side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mafalda.aio.tasks import OnFailure, TaskScope, log_failure
from mafalda.errors import Closed

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Job = Callable[[], Awaitable[object]]


class SerialExecutor(Generic[K]):
    """Runs jobs in the order in which they were submitted for their key. A key without jobs costs nothing.

    Args:
        tasks: Owns one task for each key that has jobs.
        name: Of those tasks, followed by the key.
        on_failure: Called with the task's name and the exception of a failed job; the jobs after it still run.
    """

    def __init__(self, tasks: TaskScope, name: str, on_failure: OnFailure = log_failure) -> None:
        self._tasks = tasks
        self._name = name
        self._on_failure = on_failure
        self._queues: dict[K, deque[Job]] = {}
        self._idle: dict[K, asyncio.Event] = {}
        self._running: dict[K, asyncio.Task[None]] = {}

    def submit(self, key: K, job: Job) -> None:
        """Run ``job`` after all that was submitted for ``key`` before."""
        if (queue := self._queues.get(key)) is not None:
            queue.append(job)
            return
        self._queues[key] = deque([job])
        self._idle[key] = asyncio.Event()
        task = self._running[key] = self._tasks.spawn(self._run(key), f"{self._name} {key}")
        task.add_done_callback(lambda task: self._ended(key, task))

    async def run(self, key: K, job: Callable[[], Awaitable[T]]) -> T:
        """Run ``job`` after all that was submitted for ``key`` before, and return its result.

        Raises:
            Exception: Whatever ``job`` raises. ``on_failure`` is not called.
            Closed: The owner of the tasks has ended before.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                result = await job()
            except BaseException as error:
                if not done.done():
                    done.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                if not done.done():
                    done.set_result(result)

        self.submit(key, run)
        try:
            await asyncio.wait((done, self._running[key]), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            done.cancel()  # nobody wants the result, nor the error
            raise
        if not done.done():
            raise Closed("the owner of this job has ended", job=self._name)
        return await done

    def backlog(self, key: K) -> int:
        """How many jobs of ``key`` have not begun."""
        return len(self._queues.get(key, ()))

    def is_idle(self, key: K) -> bool:
        """Whether no job of ``key`` waits or runs."""
        return key not in self._queues

    async def wait_idle(self, key: K) -> None:
        """Return when no job of ``key`` waits or runs. Not for the jobs of ``key`` themselves."""
        while (idle := self._idle.get(key)) is not None:
            await idle.wait()

    async def _run(self, key: K) -> None:
        queue = self._queues[key]
        while queue:
            job = queue.popleft()
            try:
                await job()
            except Exception as error:
                self._on_failure(f"{self._name} {key}", error)
        self._ended(key, self._running[key])

    def _ended(self, key: K, task: asyncio.Task[None]) -> None:
        """A key's task has run all jobs, or was cancelled, maybe before its first step."""
        if self._running.get(key) is task:
            del self._running[key], self._queues[key]
            self._idle.pop(key).set()
