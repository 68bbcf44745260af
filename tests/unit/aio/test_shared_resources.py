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
