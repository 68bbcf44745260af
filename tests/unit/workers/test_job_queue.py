"""A session's jobs run in order, and whoever waits for a job that is not done gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mafalda.aio.tasks import background, cancel_and_wait
from mafalda.errors import NoCapacity, NotFound, NotJoined
from mafalda.workers.peers.session.job_queue import MAX_QUEUED, JobQueue


def new_queue() -> JobQueue:
    return JobQueue("alice", lambda: NotJoined("the session is over"))


def noting(done: list[str], what: str) -> Callable[[], Awaitable[None]]:
    async def note() -> None:
        done.append(what)

    return note


async def test_jobs_run_in_order_and_a_failed_one_holds_up_no_other() -> None:
    queue, done = new_queue(), list[str]()

    async def fail() -> None:
        raise RuntimeError("a bug")

    async with background(queue.run(), "jobs"):
        queue.add(noting(done, "1"))
        queue.add(fail)
        queue.add(noting(done, "2"))
        await queue.run_in_order(noting(done, "3"))
    assert done == ["1", "2", "3"]


async def test_the_result_or_the_error_of_a_job_reaches_who_waits_for_it() -> None:
    queue = new_queue()

    async def answer() -> int:
        return 42

    async def refuse() -> int:
        raise NotFound("no such object")

    async with background(queue.run(), "jobs"):
        assert await queue.run_in_order(answer) == 42
        with pytest.raises(NotFound):
            await queue.run_in_order(refuse)
        assert await queue.run_in_order(answer) == 42


async def test_after_close_the_running_job_ends_and_none_begins() -> None:
    queue, done, gate = new_queue(), list[str](), asyncio.Event()
    began = asyncio.Event()

    async def slow() -> None:
        began.set()
        await gate.wait()
        done.append("slow")

    async with background(queue.run(), "jobs") as run:
        queue.add(slow)
        waiting = asyncio.create_task(queue.run_in_order(noting(done, "never")))
        await began.wait()
        queue.close()
        gate.set()
        await run
        queue.skip_all()
        with pytest.raises(NotJoined):
            await waiting
    with pytest.raises(NotJoined):
        await queue.run_in_order(noting(done, "never"))
    assert (done, queue.is_empty, queue.is_closed) == (["slow"], True, True)


async def test_when_the_task_of_the_queue_is_cancelled_the_running_jobs_waiter_gets_an_error() -> None:
    queue, began = new_queue(), asyncio.Event()

    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    run = asyncio.create_task(queue.run())
    waiting = asyncio.create_task(queue.run_in_order(endless))
    await began.wait()
    await cancel_and_wait(run)
    with pytest.raises(NotJoined):
        await waiting


async def test_a_waiter_that_gives_up_does_not_disturb_the_queue() -> None:
    queue, done, gate, began = new_queue(), list[str](), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        began.set()
        await gate.wait()
        done.append("slow")

    async with background(queue.run(), "jobs"):
        waiting = asyncio.create_task(queue.run_in_order(slow))
        await began.wait()
        await cancel_and_wait(waiting)
        gate.set()
        await queue.run_in_order(noting(done, "next"))
    assert done == ["slow", "next"]


async def test_too_many_jobs_are_refused() -> None:
    queue = new_queue()
    for _ in range(MAX_QUEUED):
        queue.check_room()
        queue.add(noting([], ""))
    with pytest.raises(NoCapacity):
        queue.check_room()
    with pytest.raises(NoCapacity):
        await queue.run_in_order(noting([], ""))
