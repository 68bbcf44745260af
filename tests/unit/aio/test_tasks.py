"""Tasks end with their owner, and their failures reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from mafalda.aio.tasks import TaskScope, background, gather_or_cancel, open_tasks


async def _forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def test_close_cancels_what_still_runs() -> None:
    ended: list[str] = []
    async with open_tasks() as tasks:
        tasks.spawn(_forever(ended), "forever")
        await asyncio.sleep(0)
    assert ended == ["ended"]


async def test_a_failure_reaches_the_owner_and_no_other_task() -> None:
    failures: list[tuple[str, str]] = []
    tasks = TaskScope(lambda name, error: failures.append((name, str(error))))
    ended: list[str] = []
    tasks.spawn(_forever(ended), "other")

    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await tasks.spawn(fail(), "failing")
    assert (failures, ended) == ([("failing", "broken")], [])
    await tasks.close()
    assert ended == ["ended"]


async def test_after_close_nothing_begins() -> None:
    tasks = TaskScope()
    await tasks.close()
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    task = tasks.spawn(begin(), "late")
    await asyncio.wait([task])
    assert (begun, task.cancelled()) == ([], True)


async def test_close_gives_the_grace_period() -> None:
    tasks = TaskScope()
    released, done = asyncio.Event(), []

    async def work() -> None:
        await released.wait()
        done.append(1)

    tasks.spawn(work(), "work")
    released.set()
    await tasks.close(grace_s=5)
    assert done == [1]


async def test_a_task_may_close_its_own_scope() -> None:
    tasks = TaskScope()
    task = tasks.spawn(tasks.close(), "closer")
    await asyncio.wait([task])
    assert not task.cancelled()


async def test_background_raises_the_failure_of_the_work_after_the_block() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with background(fail(), "failing") as task:
            await asyncio.wait([task])


async def test_results_of_what_runs_side_by_side_come_in_order() -> None:
    first = asyncio.Event()

    async def one() -> int:
        await first.wait()
        return 1

    async def two() -> int:
        first.set()
        return 2

    assert await gather_or_cancel([one(), two()]) == [1, 2]
    assert await gather_or_cancel(list[Coroutine[None, None, int]]()) == []


async def test_what_runs_beside_a_failure_has_ended_when_it_is_raised() -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await gather_or_cancel([_forever(ended), fail()])
    assert ended == ["ended"]
