"""The embedded nats-server: it starts or raises the reason, stops, and does not outlive its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.errors import ServerFailed
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract import subjects

PARENT = """
import asyncio, sys
from mafalda.bus.nats.server import ServerConfig, run_server
async def main():
    async with run_server(ServerConfig(port=0)) as server:
        print(server.pid, file=sys.stderr, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_it_stops_with_the_block_and_leaves_nothing(h: Any) -> None:
    async with run_server(ServerConfig(port=0)) as server:
        process = psutil.Process(server.pid)
        directory = server.log_file.parent
        assert directory.exists()
        [listening] = [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
        assert listening.laddr.ip == "127.0.0.1"
    assert not process.is_running()
    assert not directory.exists()


async def test_the_log_is_stored_in_the_configured_directory(tmp_path: Path, h: Any) -> None:
    event = subjects.room_event("r", "x")
    for number in range(2):
        async with (
            run_server(ServerConfig(port=0, store_dir=tmp_path)) as server,
            connect(BusConfig(servers=(server.url,))) as bus,
        ):
            assert await bus.last_seq() == number
            await h.append(bus, event)


async def test_a_taken_port_is_an_error(h: Any) -> None:
    async with run_server(ServerConfig(port=0)) as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(ServerFailed) as caught:
            async with run_server(ServerConfig(port=port)):
                pass
        assert "address already in use" in str(caught.value.details["last_words"])


async def test_a_bad_configuration_is_an_error(tmp_path: Path, h: Any) -> None:
    conf = tmp_path / "bad.conf"
    conf.write_text("jetstream { nonsense: 1 }")
    with pytest.raises(ServerFailed):
        async with run_server(ServerConfig(port=0, conf_file=conf)):
            pass


async def test_its_end_is_noticed(h: Any) -> None:
    async with run_server(ServerConfig(port=0)) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerFailed):
            async with asyncio.timeout(10):
                await server.wait()


async def test_it_dies_with_its_parent(h: Any) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stderr
        child = psutil.Process(int(await parent.stderr.readline()))
    finally:
        parent.kill()
        await parent.communicate()
    await h.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
