"""A clock that can be stopped: no time passes, and no timer fires, while it stands still."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.aio.clock import PausableClock


async def turn() -> None:
    """Let all timers of the loop that are due within 2 ms fire: a loop calls timers in the order of their times."""
    loop, fired = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(0.002, fired.set)
    await fired.wait()


async def test_no_time_passes_while_it_stands_still() -> None:
    clock = PausableClock()
    clock.stop("outage")
    before = clock.time()
    await turn()
    assert clock.time() == before
    clock.resume("outage")
    await turn()
    assert before < clock.time() < asyncio.get_running_loop().time()


async def test_every_reason_has_to_be_taken_back() -> None:
    clock = PausableClock()
    clock.stop("one")
    clock.stop("two")
    clock.resume("one")
    clock.resume("never given")
    before = clock.time()
    await turn()
    assert clock.time() == before
    clock.resume("two")
    assert clock.is_running
    assert clock.stops == 1


async def test_a_timer_fires_only_while_it_runs() -> None:
    clock, fired = PausableClock(), asyncio.Event()
    clock.stop("outage")
    clock.call_at(clock.time() + 0.001, fired.set)
    await turn()
    assert not fired.is_set()
    clock.resume("outage")
    async with asyncio.timeout(5):
        await fired.wait()


async def test_a_timer_that_was_armed_is_held_back() -> None:
    clock, fired = PausableClock(), asyncio.Event()
    clock.call_at(clock.time() + 0.001, fired.set)
    clock.stop("outage")
    await turn()
    assert not fired.is_set()


async def test_a_cancelled_timer_never_fires() -> None:
    clock, fired = PausableClock(), asyncio.Event()
    running = clock.call_at(clock.time() + 0.001, fired.set)
    clock.stop("outage")
    standing = clock.call_at(clock.time() + 0.001, fired.set)
    running.cancel()
    standing.cancel()
    clock.resume("outage")
    await turn()
    assert not fired.is_set()


async def test_a_timeout_counts_only_running_time() -> None:
    clock = PausableClock()
    clock.stop("outage")
    async with clock.timeout(0.001):
        await turn()
    clock.resume("outage")
    with pytest.raises(TimeoutError):
        async with clock.timeout(0.001):
            await asyncio.Event().wait()


async def test_a_timeout_leaves_other_cancellations_alone() -> None:
    clock = PausableClock()

    async def wait() -> None:
        async with clock.timeout(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_sleep_and_no_limit() -> None:
    clock = PausableClock()
    before = clock.time()
    await clock.sleep(0.001)
    assert clock.time() >= before + 0.001
    async with clock.timeout(None):
        await asyncio.sleep(0)
