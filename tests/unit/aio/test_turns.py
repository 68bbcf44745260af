"""Turns go alternately to who has waited longest and to who came last."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.aio.turns import Turns


async def order_of(turns: Turns, names: list[str]) -> list[str]:
    """The order in which waiters get their turns, one after the other."""
    got: list[str] = []

    async def wait(name: str) -> None:
        async with turns.turn(name):
            got.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(wait(name))
    return got


async def test_the_oldest_and_the_newest_alternate() -> None:
    assert await order_of(Turns(1), ["a", "b", "c", "d", "e"]) == ["a", "b", "e", "c", "d"]


async def test_who_comes_behind_thousands_has_a_turn_at_once() -> None:
    names = [f"burst-{number}" for number in range(10_000)]
    got = await order_of(Turns(8), [*names, "mine"])
    assert got.index("mine") < 20
    assert len(got) == len(names) + 1, "nobody is left out"


async def test_no_more_than_the_limit_at_a_time_and_an_early_end_lets_the_next_begin() -> None:
    turns, begun = Turns(2), []

    async def work(name: str, gate: asyncio.Event) -> None:
        async with turns.turn(name) as turn:
            begun.append(name)
            await gate.wait()
            turn.end()
            turn.end()
            await asyncio.Event().wait()

    first, never = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(work(name, gate)) for name, gate in (("a", first), ("b", never), ("c", never))]
    await asyncio.sleep(0)
    assert begun == ["a", "b"]
    first.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert begun == ["a", "b", "c"]
    assert len(turns) == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5), turns.turn("key"), turns.turn("key"):
        pass


async def test_all_waiters_are_cancelled_at_once() -> None:
    turns = Turns(1)

    async def wait() -> None:
        async with turns.turn("key"):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(wait()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    async with asyncio.timeout(5), turns.turn("key"):
        pass


async def test_a_cancelled_waiter_takes_no_turn_away() -> None:
    turns = Turns(1)

    async def wait() -> None:
        async with turns.turn("key"):
            pass

    async with turns.turn("key"):
        waiting, granted = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    granted.cancel()  # it has its turn, and does not know yet
    with pytest.raises(asyncio.CancelledError):
        await granted
    async with asyncio.timeout(5), turns.turn("key"):
        pass
