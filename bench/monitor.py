"""How much a large fleet costs the monitor: a simulated one of ten thousand peers, in a real NATS, asked over HTTP.

The log has 32 workers on 8 servers, one room with half of the peers and one producer that is relayed to every worker,
and rooms of fifty. Measured is ``mafalda monitor`` as a process: from its start until it has folded the log, each path
that the page asks for each second, a state of the past, and its memory.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection

import nats
import orjson
import psutil

from bench.figures import Figure, p50, p99
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract.messages.envelope import encode
from mafalda.testing.builders import message
from mafalda.testing.stories import Story

SERVERS = 8
WORKERS_EACH = 4
SMALL_ROOM = 50
BIG_ROOM = "town-hall"
PORT = 18_081
_FLUSH_EVERY = 2_000

Entry = tuple[str, bytes]


async def measure(quick: bool) -> list[Figure]:
    """Ready, the page's requests, a moment of the past, memory."""
    peers = 1_000 if quick else 10_000
    async with run_server(ServerConfig(port=0)) as server:
        async with connect(BusConfig(servers=(server.url,))):
            entries = await fill(server.url, peers)
        start = time.perf_counter()
        async with _monitor(server.url) as process:
            await _until_folded(entries)
            ready_s = time.perf_counter() - start
            figures = [Figure("monitor", f"ready: {peers:,} peers, {entries:,} entries", ready_s, "s")]
            paths = ("fleet", "servers?limit=100", "rooms?limit=100", f"rooms/{BIG_ROOM}", f"rooms/{BIG_ROOM}/peers")
            for path in paths:
                samples, size = await asyncio.to_thread(_ask_often, path, 20 if quick else 100)
                what = f"/api/{path}, {size / 1000:.1f} kB"
                figures.append(Figure("monitor", what, p50(samples) * 1e3, "ms p50", p99=p99(samples) * 1e3))
            began = time.perf_counter()
            await asyncio.to_thread(ask, f"fleet?seq={entries - 5_000 if not quick else entries // 2}")
            figures.append(Figure("monitor", "a state of the past", time.perf_counter() - began, "s"))
            memory = psutil.Process(process.pid).memory_info().rss
            figures.append(Figure("monitor", "memory", memory / 1e6, "MB"))
            return figures


async def fill(url: str, peers: int) -> int:
    """Publish the log of a fleet with so many peers; returns the number of its entries."""
    raw = await nats.connect(url)
    try:
        count = 0
        for subject, data in _log(peers):
            await raw.publish(subject, data)
            count += 1
            if count % _FLUSH_EVERY == 0:
                await raw.flush(timeout=60)
        await raw.flush(timeout=60)
    finally:
        await raw.close()
    return count


def _workers() -> list[str]:
    return [f"s{server}-{worker}" for server in range(SERVERS) for worker in range(WORKERS_EACH)]


def _log(peers: int) -> Iterator[Entry]:
    start = Story()
    for server in range(SERVERS):
        start.server_starts(f"s{server}", *(it for it in _workers() if it.startswith(f"s{server}-")))
    yield from _encoded(start, 0)
    yield from _room(BIG_ROOM, peers // 2, relayed=True)
    for number in range(peers // 2 // SMALL_ROOM):
        yield from _room(f"room-{number:04d}", SMALL_ROOM, relayed=False)


def _room(room: str, peers: int, *, relayed: bool) -> Iterator[Entry]:
    workers = _workers()
    story = Story(room)
    for server in range(SERVERS):
        story.server_starts(f"s{server}", *(it for it in workers if it.startswith(f"s{server}-")))
    begin = len(story.entries)
    for number in range(peers):
        peer, worker = f"peer-{number:05d}", workers[number % len(workers)]
        story.joins(peer, worker).opens_transport(peer)
        if number % 10 == 0:
            story.produces(peer, f"{peer}-mic", worker=worker)
    if relayed:
        for source, target in _tree(workers):
            story.opens_relay("peer-00000-mic", source, target)
        for number in range(1, peers):
            story.consumes(f"peer-{number:05d}", f"hears-{number:05d}", "peer-00000-mic")
    yield from _encoded(story, begin)


def _tree(workers: list[str]) -> Iterator[tuple[str, str]]:
    """From the first worker to the first of each server, and from there to the others of that server."""
    for first in range(WORKERS_EACH, len(workers), WORKERS_EACH):
        yield workers[0], workers[first]
    for number, worker in enumerate(workers):
        if number % WORKERS_EACH:
            yield workers[number - number % WORKERS_EACH], worker


def _encoded(story: Story, begin: int) -> Iterator[Entry]:
    for _, subject, payload in story.entries[begin:]:
        yield subject, encode(message(payload, subject=subject))


@asynccontextmanager
async def _monitor(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mafalda", "monitor", "--listen", str(PORT), "--stop-with-stdin"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "MAFALDA_NATS_URL": url},
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _until_folded(seq: int) -> None:
    while orjson.loads(await asyncio.to_thread(ask, "fleet"))["seq"] < seq:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.05)


def ask(path: str) -> bytes:
    """The answer of the monitor, which listens on ``PORT``."""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request("GET", f"/api/{path}")
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body
    finally:
        connection.close()


def _ask_often(path: str, times: int) -> tuple[list[float], int]:
    samples, size = [], 0
    for _ in range(times):
        start = time.perf_counter()
        size = len(ask(path))
        samples.append(time.perf_counter() - start)
    return samples, size
