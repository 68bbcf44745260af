"""The clock that ships for tests: it stands still, and wakes sleepers in order."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mafalda.testing.clock import ManualClock


async def test_sleepers_wake_in_order_of_time() -> None:
    clock, woken = ManualClock(100.0), []

    async def sleep(name: str, *seconds: float) -> None:
        for each in seconds:
            await clock.sleep(each)
            woken.append((name, clock.now()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleep("long", 3))
        tasks.create_task(sleep("twice", 1, 1))
        await clock.wait_for_sleepers(2)
        await clock.advance(0.5)
        assert woken == []
        await clock.advance(10)
    assert woken == [("twice", 101.0), ("twice", 102.0), ("long", 103.0)]
    assert clock.now() == 110.5


async def test_the_wall_clock_goes_along() -> None:
    clock = ManualClock(7.0)
    before = clock.wall()
    await clock.advance(60)
    assert clock.wall() - before == timedelta(minutes=1)


async def test_who_gives_up_sleeps_no_more() -> None:
    clock = ManualClock()
    sleeping = asyncio.create_task(clock.sleep(1))
    await clock.wait_for_sleepers()
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert clock.sleeping == 0
    await clock.advance(2)
    with pytest.raises(TimeoutError):
        await clock.wait_for_sleepers(timeout_s=0.01)
