"""A single intent: its result is awaited, and nobody else's is taken for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import EndRoom
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import Done, Rejected
from mafalda.contract.reading import read_message
from mafalda.errors import DeadlineExceeded, NotFound
from mafalda.session.one_request import request_once
from mafalda.session.requests import RequestTimes
from mafalda.testing.memory_bus import MemoryBus

RESULT = subjects.result("lobby", "operator", EndRoom.action)
DONE = Done(intent=EndRoom.action, target="lobby", generation=0)
NOT_FOUND = Rejected(intent=EndRoom.action, error=ErrorInfo.of(NotFound("no such room")))


async def end_room(bus: MemoryBus, times: RequestTimes | None = None) -> Done:
    return await request_once(bus, "lobby", "operator", EndRoom(), Done, source="/test", times=times)


@asynccontextmanager
async def answering(bus: MemoryBus, result: Payload) -> AsyncIterator[None]:
    """Answer intents, each after a result of somebody else's and a message of a newer version."""

    async def answer(intents: AsyncIterator[Delivery]) -> None:
        async for delivery in intents:
            _, intent = read_message(delivery.subject, delivery.data)
            await bus.append(RESULT, compose(NOT_FOUND, subject=RESULT, source="/test"))
            bus.broker.store(RESULT, b'{"specversion": "1.0"}', {})
            await bus.append(RESULT, compose(result, subject=RESULT, source="/test", cause=intent))

    async with bus.follow(subjects.ALL_INTENTS) as intents, background(answer(intents), "fleet"):
        yield


@pytest.mark.usefixtures("no_leaked_tasks")
async def test_the_result_of_the_intent_is_returned() -> None:
    bus = MemoryBus()
    async with answering(bus, DONE):
        assert await end_room(bus) == DONE


async def test_a_refusal_is_raised() -> None:
    bus = MemoryBus()
    async with answering(bus, NOT_FOUND):
        with pytest.raises(NotFound, match="no such room"):
            await end_room(bus)


async def test_nobody_answers() -> None:
    with pytest.raises(DeadlineExceeded):
        await end_room(MemoryBus(), RequestTimes(timeout_s=0.05))
