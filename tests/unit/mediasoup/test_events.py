"""Events: unknown names are refused, failing callbacks do not stop others, coroutines run, waiting ends."""

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

    def emit(self, event: str, payload: Any) -> None:
        self._emit(event, payload)

    def end(self) -> None:
        self._drop_listeners()


@pytest.fixture
def thing() -> Thing:
    return Thing(TaskScope())


def test_callbacks_are_called_in_order_until_they_are_unsubscribed(thing: Thing) -> None:
    seen: list[Any] = []
    unsubscribe = thing.on(Thing.CHANGE, lambda value: seen.append(("first", value)))
    thing.on("change", lambda value: seen.append(("second", value)))
    thing.once("change", lambda value: seen.append(("once", value)))
    thing.emit("change", 1)
    unsubscribe()
    unsubscribe()
    thing.emit("change", 2)
    assert seen == [("first", 1), ("second", 1), ("once", 1), ("second", 2)]


def test_unknown_names_are_refused(thing: Thing) -> None:
    thing.on("close", print)  # inherited
    with pytest.raises(InvalidParameters) as caught:
        thing.on("chnage", print)
    assert caught.value.details["events"] == ["change", "close"]


def test_a_failing_callback_does_not_stop_the_others(thing: Thing) -> None:
    seen: list[int] = []

    def fail(value: int) -> None:
        raise ValueError(value)

    thing.on("change", fail)
    thing.on("change", seen.append)
    thing.emit("change", 1)
    assert seen == [1]


async def test_coroutine_callbacks_run_and_may_fail() -> None:
    tasks = TaskScope()
    thing = Thing(tasks)
    done: list[int] = []

    async def slow(value: int) -> None:
        await asyncio.sleep(0)
        done.append(value)
        raise ValueError(value)

    thing.on("change", slow)
    thing.emit("change", 1)
    assert done == []
    await tasks.close(5)
    assert done == [1]
    thing.emit("change", 2)  # nothing is started any more
    await tasks.close(5)
    assert done == [1]


async def test_coroutine_callbacks_are_cancelled_when_their_owner_closes() -> None:
    tasks = TaskScope()
    thing = Thing(tasks)
    ended: list[str] = []

    async def forever(value: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    thing.on("change", forever)
    thing.emit("change", 1)
    await tasks.close(0.01)
    assert ended == ["cancelled"]


async def test_waiting(thing: Thing) -> None:
    waiting = asyncio.create_task(thing.wait("change", timeout_s=5, predicate=lambda value: value > 1))
    await asyncio.sleep(0)
    thing.emit("change", 1)
    thing.emit("change", 2)
    thing.emit("change", 3)
    assert await waiting == 2
    with pytest.raises(RequestTimeout):
        await thing.wait("change", timeout_s=0.01)


async def test_waiting_ends_with_the_object(thing: Thing) -> None:
    change = asyncio.create_task(thing.wait("change", timeout_s=5))
    close = asyncio.create_task(thing.wait("close", timeout_s=5))
    await asyncio.sleep(0)
    thing.emit("close", "close")
    thing.end()
    assert await close == "close"
    with pytest.raises(ObjectClosed):
        await change
