"""The queue of a session's jobs: one after the other, until it is closed.

Not ``mafalda.aio.SerialExecutor``: the task that runs a session's jobs also owns its router and subscriptions, from
before the first job until after the last one, and when it is cancelled in the middle of a job as well. An executor's
task ends whenever its key has no jobs, and runs every job that was submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import structlog

from mafalda.errors import MafaldaError, NoCapacity

#: Jobs that may wait; intents and calls beyond that are refused.
MAX_QUEUED = 512
log = structlog.get_logger("mafalda.workers")
T = TypeVar("T")
Work = Callable[[], Awaitable[None]]


class _Job(NamedTuple):
    work: Work
    skip: Callable[[], None]  # called instead of ``work`` if the queue is closed first


class JobQueue:
    """Jobs in the order in which they were added. Call ``run`` in one task.

    Args:
        name: Of the owner, for log lines.
        closed_error: Makes the error for those who wait for a job that is not done.
    """

    def __init__(self, name: str, closed_error: Callable[[], MafaldaError]) -> None:
        self._name = name
        self._closed_error = closed_error
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._is_closed = False
        #: How many jobs have been added: unchanged if none was since.
        self.added = 0

    @property
    def is_closed(self) -> bool:
        """Whether no further job is run."""
        return self._is_closed

    @property
    def is_empty(self) -> bool:
        """Whether no job waits; one may be running."""
        return self._jobs.empty()

    async def run(self) -> None:
        """Run jobs until the queue is closed."""
        while not self.is_closed:
            job = await self._jobs.get()
            if self._is_closed:  # meanwhile
                job.skip()
            else:
                await job.work()

    def close(self) -> None:
        """Run no job after the one that runs now."""
        self._is_closed = True
        self._jobs.put_nowait(_Job(_nothing, _ignore))  # wakes ``run``

    def skip_all(self) -> None:
        """Drop the jobs that are left, once ``run`` has ended; whoever waits for one gets the error."""
        self._is_closed = True
        while not self._jobs.empty():
            self._jobs.get_nowait().skip()

    def check_room(self, more: int = 0) -> None:
        """Refuse one more job when too many wait.

        Args:
            more: How many wait besides, as parts of a job.

        Raises:
            NoCapacity: Too many wait.
        """
        if self._jobs.qsize() + more >= MAX_QUEUED:
            raise NoCapacity("too much asked for at once", limit=MAX_QUEUED)

    def add(self, work: Work, skipped: Callable[[], None] | None = None) -> None:
        """Add a job. Its failure is logged.

        Args:
            work: The job.
            skipped: Called instead of it if the queue is closed first, or is closed already.
        """
        skip = skipped or _ignore
        if self._is_closed:
            skip()
            return
        self.added += 1
        self._jobs.put_nowait(_Job(lambda: self._logged(work()), skip))

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

        self.added += 1
        self._jobs.put_nowait(_Job(run, skip))
        return await done


async def _nothing() -> None:
    """Does nothing."""


def _ignore() -> None:
    """Does nothing: nobody waits for the job."""
