"""A proxy between a bus and its NATS that tests can cut, and whole servers that they can kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import uvloop

from mafalda.aio.tasks import cancel_and_wait
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.results import Done

DEADLINE_S = 60  # of a machine that does much else; nothing waits for it to pass


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the commands run on."""
    return {"uvloop": uvloop.new_event_loop}


class TcpProxy:
    """A TCP proxy on loopback. With ``drops_replies`` nothing that the server sends gets through."""

    def __init__(self, target: str) -> None:
        url = urlparse(target)
        self._target = (url.hostname, url.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.drops_replies = False
        self.closed = False
        self.url = ""

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.closed:
                there, to_there = await asyncio.open_connection(*self._target)
                self._writers.add(to_there)
                await asyncio.gather(self._forward(reader, to_there, False), self._forward(there, writer, True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.cut()

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, downwards: bool) -> None:
        try:
            while data := await source.read(65536):
                if not (downwards and self.drops_replies):
                    target.write(data)
                    await target.drain()
        finally:
            target.close()

    def cut(self) -> None:
        """Abort every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.closed = True
        self.cut()
        await cancel_and_wait(*self._tasks)


@asynccontextmanager
async def open_proxy(url: str) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(url)
    server = await asyncio.start_server(proxy.serve_client, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.url = f"nats://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


@pytest.fixture
async def proxy(nats_url: str) -> AsyncIterator[TcpProxy]:
    async with open_proxy(nats_url) as opened:
        yield opened


def message(subject: str, *, id: str | None = None) -> Message:
    return compose(Done(intent="test", generation=1), subject=subject, source="/test", id=id)


async def append(bus: Bus, *subjects: str) -> list[int]:
    return [(await bus.append(subject, message(subject))).seq for subject in subjects]


async def take(deliveries: AsyncIterator[Delivery], number: int) -> list[int]:
    async with asyncio.timeout(DEADLINE_S):
        return [(await anext(deliveries)).seq for _ in range(number)]


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition without an event of its own."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0.005)  # it is looked at again; the deadline ends the loop


class Helpers:
    message = staticmethod(message)
    append = staticmethod(append)
    take = staticmethod(take)
    until = staticmethod(until)
    open_proxy = staticmethod(open_proxy)


@pytest.fixture
def h(no_leaked_tasks: None) -> type[Helpers]:
    return Helpers


@pytest.fixture
def conf(tmp_path: Path) -> Callable[[str], Path]:
    """A nats.conf with JetStream and more."""

    def write(more: str) -> Path:
        file = tmp_path / "nats.conf"
        with suppress(FileNotFoundError):
            file.unlink()
        file.write_text(f"jetstream {{}}\n{more}\n")
        return file

    return write
