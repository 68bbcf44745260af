"""One suite for every bus: a backend is what makes buses, and what a test can do to them from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import nats
import pytest
import uvloop

from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.log.append import message_headers
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.results import Done
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus

DEADLINE_S = 60  # of a machine that does much else; nothing waits for it to pass


class Backend(Protocol):
    """A broker that several buses share."""

    def open(self) -> AbstractAsyncContextManager[Bus]:
        """One more bus, as another process would have."""

    async def inject(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publish raw bytes, as any publisher can."""

    async def send_request(self, subject: str, message: Message, reply: str) -> None:
        """Publish a request that names any reply subject."""

    async def disturb(self, bus: Bus) -> None:
        """Break the connection of ``bus``, and let it come back."""


class MemoryBackend:
    def __init__(self) -> None:
        self.broker = MemoryBroker()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bus]:
        yield MemoryBus(self.broker)

    async def inject(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.broker.store(subject, data, headers or {})

    async def send_request(self, subject: str, message: Message, reply: str) -> None:
        self.broker.send(Delivery(subject, encode(message), 0, reply, message_headers(message)))

    async def disturb(self, bus: Bus) -> None:
        with self.broker.down():
            await asyncio.sleep(0)


class NatsBackend:
    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bus]:
        async with connect(BusConfig(servers=(self.url,), name="conformance", append_timeout_s=DEADLINE_S)) as bus:
            yield bus

    async def inject(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        async with connect(BusConfig(servers=(self.url,))) as bus:
            await bus.connection.request(subject, data, headers=headers, timeout_s=DEADLINE_S)

    async def send_request(self, subject: str, message: Message, reply: str) -> None:
        client = await nats.connect(self.url)
        await client.publish(subject, encode(message), reply, headers=message_headers(message))
        await client.close()

    async def disturb(self, bus: Bus) -> None:
        assert isinstance(bus, NatsBus)
        await bus.connection.reconnect()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops that a bus runs on: the commands use uvloop, an application may use either."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=["memory", "nats"])
def backend(request: pytest.FixtureRequest, no_leaked_tasks: None) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    return NatsBackend(request.getfixturevalue("nats_url"))


@pytest.fixture
async def bus(backend: Backend) -> AsyncIterator[Bus]:
    async with backend.open() as opened:
        yield opened


class Helpers:
    """Shorthands of the tests."""

    @staticmethod
    def message(subject: str, *, id: str | None = None, target: str | None = None) -> Message:
        return compose(Done(intent="test", generation=1, target=target), subject=subject, source="/test", id=id)

    @classmethod
    async def append(cls, bus: Bus, *subjects: str) -> list[int]:
        """One message on each subject, one after another; their sequences."""
        return [(await bus.append(subject, cls.message(subject))).seq for subject in subjects]

    @staticmethod
    async def take(deliveries: AsyncIterator[Delivery], number: int) -> list[Delivery]:
        """The next ones."""
        async with asyncio.timeout(DEADLINE_S):
            return [await anext(deliveries) for _ in range(number)]


@pytest.fixture
def h() -> type[Helpers]:
    return Helpers
