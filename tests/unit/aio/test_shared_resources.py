"""A shared resource is made once, and closed after its last user."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.aio.shared_resources import SharedResources
from mafalda.aio.tasks import open_tasks


class _Factory:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.log: list[str] = []

    async def make(self, key: str) -> str:
        self.log.append(f"make {key}")
        await self.gate.wait()
        if self.fails:
            raise ValueError(key)
        return key.upper()

    async def close(self, key: str, resource: str) -> None:
        self.log.append(f"close {resource}")


async def test_made_once_and_closed_after_the_last_user() -> None:
    factory = _Factory()
    async with open_tasks() as tasks:
        shared = SharedResources(tasks, factory.make, factory.close)
        acquired = [asyncio.create_task(shared.acquire("a", user)) for user in (1, 2)]
        assert [await task for task in acquired] == ["A", "A"]
        shared.release("a", 1)
        shared.release("a", 1)
        assert (shared.get("a"), shared.items(), factory.log) == ("A", [("a", "A")], ["make a"])
        shared.release("a", 2)
        assert shared.get("a") is None
        while len(factory.log) < 2:  # noqa: ASYNC110 — closing is a task of the scope
            await asyncio.sleep(0)
        assert factory.log == ["make a", "close A"]
        assert await shared.acquire("a", 3) == "A"
        assert factory.log[2:] == ["make a"]


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    factory = _Factory()
    factory.fails = True
    async with open_tasks() as tasks:
        shared = SharedResources(tasks, factory.make, factory.close)
        outcomes = await asyncio.gather(shared.acquire("a", 1), shared.acquire("a", 2), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
        with pytest.raises(ValueError, match="a"):
            await shared.acquire("a", 1)
        factory.fails = False
        assert await shared.acquire("a", 1) == "A"


async def test_a_user_who_gives_up_does_not_stop_the_others() -> None:
    factory = _Factory()
    factory.gate.clear()
    async with open_tasks() as tasks:
        shared = SharedResources(tasks, factory.make, factory.close)
        one, other = (asyncio.create_task(shared.acquire("a", user)) for user in (1, 2))
        await asyncio.sleep(0)
        one.cancel()
        factory.gate.set()
        assert await other == "A"
        assert one.cancelled()
        assert factory.log == ["make a"]


async def test_a_resource_that_nobody_waits_for_any_more_is_closed_once_made() -> None:
    factory = _Factory()
    factory.gate.clear()
    async with open_tasks() as tasks:
        shared = SharedResources(tasks, factory.make, factory.close)
        one = asyncio.create_task(shared.acquire("a", 1))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        factory.gate.set()
        while len(factory.log) < 2:  # noqa: ASYNC110 — closing is a task of the scope
            await asyncio.sleep(0)
    assert factory.log == ["make a", "close A"]


async def test_a_key_is_made_again_only_after_its_resource_is_closed() -> None:
    closed = asyncio.Event()
    log: list[str] = []

    async def make(key: str) -> str:
        log.append("made")
        return key

    async def close(key: str, resource: str) -> None:
        log.append("closing")
        await closed.wait()
        log.append("closed")

    async with open_tasks() as tasks:
        shared = SharedResources(tasks, make, close)
        await shared.acquire("a", 1)
        shared.release("a", 1)
        given_up, again = (asyncio.create_task(shared.acquire("a", user)) for user in (2, 3))
        while "closing" not in log:  # noqa: ASYNC110 — closing is a task of the scope
            await asyncio.sleep(0)
        given_up.cancel()
        closed.set()
        assert await again == "a"
    assert log == ["made", "closing", "closed", "made"]


async def test_making_ends_with_its_tasks() -> None:
    factory = _Factory()
    factory.gate.clear()
    async with open_tasks() as tasks:
        shared = SharedResources(tasks, factory.make, factory.close)
        waiting = asyncio.create_task(shared.acquire("a", 1))
        while not factory.log:  # noqa: ASYNC110 — making is a task of the scope
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert factory.log == ["make a"]
