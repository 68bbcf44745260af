"""Work ends when its event is set; waiting ends with the first event."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.aio.events import Interrupted, run_unless_set, wait_first


async def test_work_that_ends_first_gives_its_result() -> None:
    async def work() -> int:
        return 3

    assert await run_unless_set(asyncio.Event(), work(), "work") == 3


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_the_event_cancels_the_work(when: str) -> None:
    event, began, cancelled = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    if when == "before":
        event.set()
    running = asyncio.create_task(run_unless_set(event, work(), "work"))
    if when == "meanwhile":
        await began.wait()
        event.set()
    with pytest.raises(Interrupted):
        await running
    assert cancelled == ([1] if when == "meanwhile" else [])


async def test_the_first_event_ends_the_wait() -> None:
    one, other = asyncio.Event(), asyncio.Event()
    waiting = asyncio.create_task(wait_first(one, other))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.set()
    await waiting
