"""The queue of a session's jobs: one after the other, until it is closed.

Not ``mafalda.aio.SerialExecutor``: the task that runs a session's jobs also owns its router and subscriptions, from
before the first job until after the last one, and when it is cancelled in the middle of a job as well. An executor's
task ends whenever its key has no jobs, and runs every job that was submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import structlog

from mafalda.aio.tasks import cancel_and_wait
from mafalda.errors import MafaldaError, NoCapacity

#: Jobs that may wait; intents and calls beyond that are refused.
MAX_QUEUED = 512
#: So much may be left to be finished beside later jobs; then the next job waits.
MAX_LEFT = 64
log = structlog.get_logger("mafalda.workers")
T = TypeVar("T")
Work = Callable[[], Awaitable[None]]


class _Job(NamedTuple):
    work: Work
    skip: Callable[[], None]  # called instead of ``work`` if the queue is closed first
    overlaps: bool = False  # whether it may begin before everything is finished that earlier jobs left


class JobQueue:
    """Jobs in the order in which they were added. Call ``run`` in one task.

    A job may leave its end to be finished beside later jobs (``finish_later``): jobs that were added as ``overlaps`` do
    not wait for it, all others do.

    Args:
        name: Of the owner, for log lines.
        closed_error: Makes the error for those who wait for a job that is not done.
    """

    def __init__(self, name: str, closed_error: Callable[[], MafaldaError]) -> None:
        self._name = name
        self._closed_error = closed_error
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._is_closed = False
        self._left: set[asyncio.Task[None]] = set()

    @property
    def is_closed(self) -> bool:
        """Whether no further job is run."""
        return self._is_closed

    @property
    def is_empty(self) -> bool:
        """Whether no job waits; one may be running."""
        return self._jobs.empty()

    async def run(self) -> None:
        """Run jobs until the queue is closed, and finish what they left."""
        try:
            while not self.is_closed:
                job = await self._jobs.get()
                if not self._is_closed and (not job.overlaps or len(self._left) >= MAX_LEFT):
                    await self._finish_left()
                if self._is_closed:  # meanwhile
                    job.skip()
                else:
                    await job.work()
            await self._finish_left()
        finally:
            await cancel_and_wait(*self._left)

    def finish_later(self, work: Coroutine[Any, Any, None]) -> None:
        """Finish a part of the running job beside later jobs that overlap; its failure is logged."""
        task = asyncio.create_task(self._logged(work), name=f"rest of a job of {self._name}")
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    async def _finish_left(self) -> None:
        if self._left:
            await asyncio.wait(self._left)

    def close(self) -> None:
        """Run no job after the one that runs now."""
        self._is_closed = True
        self._jobs.put_nowait(_Job(_nothing, _ignore))  # wakes ``run``

    def skip_all(self) -> None:
        """Drop the jobs that are left, once ``run`` has ended; whoever waits for one gets the error."""
        self._is_closed = True
        while not self._jobs.empty():
            self._jobs.get_nowait().skip()

    def check_room(self) -> None:
        """Refuse one more job when too many wait.

        Raises:
            NoCapacity: Too many wait.
        """
        if self._jobs.qsize() >= MAX_QUEUED:
            raise NoCapacity("too much asked for at once", limit=MAX_QUEUED)

    def add(self, work: Work, skipped: Callable[[], None] | None = None, *, overlaps: bool = False) -> None:
        """Add a job. Its failure is logged.

        Args:
            work: The job.
            skipped: Called instead of it if the queue is closed first, or is closed already.
            overlaps: Whether it may begin before everything is finished that earlier jobs left to be finished later.
        """
        skip = skipped or _ignore
        if self._is_closed:
            skip()
            return
        self._jobs.put_nowait(_Job(lambda: self._logged(work()), skip, overlaps))

    async def _logged(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("internal error", action="internal_error", peer_id=self._name)

    async def run_in_order(self, work: Callable[[], Awaitable[T]]) -> T:
        """Add a job and return its result.

        Raises:
            MafaldaError: The queue is closed, or is closed first.
            NoCapacity: Too many jobs wait.
            Exception: Whatever ``work`` raises.
        """
        if self.is_closed:
            raise self._closed_error()
        self.check_room()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                result = await work()
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            except BaseException:
                skip()
                raise
            else:
                if not done.done():
                    done.set_result(result)

        def skip() -> None:
            if not done.done():
                done.set_exception(self._closed_error())

        self._jobs.put_nowait(_Job(run, skip))
        return await done


async def _nothing() -> None:
    """Does nothing."""


def _ignore() -> None:
    """Does nothing: nobody waits for the job."""
