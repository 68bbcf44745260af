"""Fixtures that all kinds of tests share: a real nats-server, and a fresh bus on it for each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM, SNAPSHOT_STREAM
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server

#: How long an example takes says more about the machine than about the code: 300 ms where 0.3 ms are usual.
settings.register_profile("mafalda", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mafalda")


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """One nats-server for the session, its store in a directory that goes away.

    It has a loopback address of its own: on a shared one, clients of other test runs that try to reach a server that
    is gone can find this one on its port.
    """
    pid = os.getpid()
    host = f"127.{pid >> 16 & 0xFF}.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"
    with asyncio.Runner() as runner:  # a loop of its own: tests come and go on theirs
        running = run_server(ServerConfig(host=host, port=0))
        server = runner.run(running.__aenter__())
        try:
            yield server
        finally:
            runner.run(running.__aexit__(None, None, None))


@pytest.fixture
async def nats_url(nats_server: NatsServer) -> str:
    """The session's server, without any stream of Mafalda.

    nats-server answers that a stream is deleted, and then deletes its files, under another name (``.MAFALDA_LOG``), and
    their folder with the last one. A stream that is made anew before they are gone can keep its entries; one that is
    made while the folder goes is refused.
    """
    streams = nats_server.log_file.parent / "store" / "jetstream" / "$G" / "streams"
    config = BusConfig(servers=(nats_server.url,), name="fresh")
    async with open_connection(config) as connection:
        for stream in (LOG_STREAM, LOAD_STREAM, SNAPSHOT_STREAM):
            with suppress(ApiRefused):  # there is none
                await call(connection, f"STREAM.DELETE.{stream}")
    async with asyncio.timeout(30):
        while _has_entries(streams):  # noqa: ASYNC110 - nats-server deletes files later
            await asyncio.sleep(0.005)
    return nats_server.url


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


@pytest.fixture
async def nats_bus(nats_url: str) -> AsyncIterator[NatsBus]:
    """A bus on the session's server, with an empty log."""
    async with connect(BusConfig(servers=(nats_url,), name="test")) as bus:
        yield bus


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves tasks behind. Name it first, so that it looks last."""
    before = asyncio.all_tasks()
    yield
    deadline = asyncio.get_running_loop().time() + 2  # nats-py cancels its tasks without awaiting them
    while leaked := [task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()]:
        assert asyncio.get_running_loop().time() < deadline, f"tasks left behind: {leaked}"
        await asyncio.wait(leaked, timeout=0.05)
