"""Jobs of one key run in order; other keys do not wait for them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.errors import Closed


async def test_one_key_in_order_other_keys_beside_it() -> None:
    gate, done = asyncio.Event(), []

    async def blocked() -> None:
        await gate.wait()
        done.append("a1")

    async def note(what: str) -> None:
        done.append(what)

    async with open_tasks() as tasks:
        jobs = SerialExecutor[str](tasks, "job")
        jobs.submit("a", blocked)
        jobs.submit("a", lambda: note("a2"))
        jobs.submit("b", lambda: note("b1"))
        await jobs.wait_idle("b")
        assert (done, jobs.backlog("a"), jobs.is_idle("a"), jobs.is_idle("b")) == (["b1"], 1, False, True)
        gate.set()
        await jobs.wait_idle("a")
        assert done == ["b1", "a1", "a2"]


async def test_the_result_or_the_error_of_a_job_reaches_who_waits_for_it() -> None:
    failures: list[str] = []
    done: list[int] = []

    async def work() -> int:
        done.append(len(done))
        return done[-1]

    async def fail() -> int:
        raise ValueError("broken")

    async with open_tasks() as tasks:
        jobs = SerialExecutor[str](tasks, "job", lambda name, error: failures.append(name))
        jobs.submit("a", work)
        assert await jobs.run("a", work) == 1
        with pytest.raises(ValueError, match="broken"):
            await jobs.run("a", fail)
        assert await jobs.run("a", work) == 2
    assert failures == []


async def test_who_waits_for_a_job_that_never_begins_is_told() -> None:
    began = asyncio.Event()

    async def block() -> None:
        began.set()
        await asyncio.Event().wait()

    tasks = TaskScope()
    jobs = SerialExecutor[str](tasks, "job")
    jobs.submit("a", block)
    await began.wait()
    waiting = asyncio.create_task(jobs.run("a", block))
    await asyncio.sleep(0)
    await tasks.close()
    with pytest.raises(Closed):
        await waiting
    assert jobs.is_idle("a")
    with pytest.raises(Closed):  # the scope cancels its task before the first step
        await jobs.run("b", block)
    assert jobs.is_idle("b")


async def test_the_error_of_a_job_that_nobody_waits_for_any_more_is_no_stray_one() -> None:
    stray: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
    began, go_on = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        began.set()
        await go_on.wait()
        raise ValueError("too late")

    async with open_tasks() as tasks:
        jobs = SerialExecutor[str](tasks, "job")
        waiting = asyncio.create_task(jobs.run("a", fail))
        await began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await jobs.wait_idle("a")
    gc.collect()
    assert stray == []


async def test_a_failed_job_does_not_stop_the_next() -> None:
    failures: list[str] = []
    done: list[int] = []

    async def fail() -> None:
        raise ValueError("broken")

    async def work() -> None:
        done.append(1)

    async with open_tasks() as tasks:
        jobs = SerialExecutor[str](tasks, "job", lambda name, error: failures.append(f"{name}: {error}"))
        jobs.submit("a", fail)
        jobs.submit("a", work)
        await jobs.wait_idle("a")
    assert (failures, done) == (["job a: broken"], [1])


async def test_a_job_may_submit_another_for_its_own_key() -> None:
    done: list[str] = []

    async with open_tasks() as tasks:
        jobs = SerialExecutor[str](tasks, "job")

        async def second() -> None:
            done.append("second")

        async def first() -> None:
            jobs.submit("a", second)
            done.append("first")

        jobs.submit("a", first)
        await jobs.wait_idle("a")
    assert done == ["first", "second"]
