"""The observer: names are checked, errors stay where they are, coroutines run, waits end."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from mafalda.aio.tasks import TaskScope
from mafalda.errors import InvalidParameters
from mafalda.mediasoup.base.events import Emitter, Event
from mafalda.mediasoup.errors import ObjectClosed, RequestTimeout


class Base(Emitter):
    CLOSE: ClassVar = Event[str]("close")


class Thing(Base):
    CHANGE: ClassVar = Event[int]("change")


@pytest.fixture
def thing() -> Thing:
    return Thing(TaskScope())


def test_listeners_are_called_in_order_until_they_leave(thing: Thing) -> None:
    seen: list[Any] = []
    leave = thing.on(Thing.CHANGE, lambda value: seen.append(("first", value)))
    thing.on("change", lambda value: seen.append(("second", value)))
    thing.once("change", lambda value: seen.append(("once", value)))
    thing._emit("change", 1)
    leave()
    leave()
    thing._emit("change", 2)
    assert seen == [("first", 1), ("second", 1), ("once", 1), ("second", 2)]


def test_unknown_names_are_refused(thing: Thing) -> None:
    thing.on("close", print)  # inherited
    with pytest.raises(InvalidParameters) as caught:
        thing.on("chnage", print)
    assert caught.value.details["events"] == ["change", "close"]


def test_a_failing_listener_stops_nobody(thing: Thing) -> None:
    seen: list[int] = []

    def fail(value: int) -> None:
        raise ValueError(value)

    thing.on("change", fail)
    thing.on("change", seen.append)
    thing._emit("change", 1)
    assert seen == [1]


async def test_coroutines_run_and_may_fail() -> None:
    tasks = TaskScope()
    thing = Thing(tasks)
    done: list[int] = []

    async def slow(value: int) -> None:
        await asyncio.sleep(0)
        done.append(value)
        raise ValueError(value)

    thing.on("change", slow)
    thing._emit("change", 1)
    assert done == []
    await tasks.close(5)
    assert done == [1]
    thing._emit("change", 2)  # nothing is started any more
    await tasks.close(5)
    assert done == [1]


async def test_what_does_not_end_is_cancelled() -> None:
    tasks = TaskScope()
    thing = Thing(tasks)
    ended: list[str] = []

    async def forever(value: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    thing.on("change", forever)
    thing._emit("change", 1)
    await tasks.close(0.01)
    assert ended == ["cancelled"]


async def test_waiting(thing: Thing) -> None:
    waiting = asyncio.create_task(thing.wait("change", timeout_s=5, predicate=lambda value: value > 1))
    await asyncio.sleep(0)
    thing._emit("change", 1)
    thing._emit("change", 2)
    thing._emit("change", 3)
    assert await waiting == 2
    with pytest.raises(RequestTimeout):
        await thing.wait("change", timeout_s=0.01)


async def test_waiting_ends_with_the_object(thing: Thing) -> None:
    change = asyncio.create_task(thing.wait("change", timeout_s=5))
    close = asyncio.create_task(thing.wait("close", timeout_s=5))
    await asyncio.sleep(0)
    thing._emit("close", "close")
    thing._drop_listeners()
    assert await close == "close"
    with pytest.raises(ObjectClosed):
        await change
