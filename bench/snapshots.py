"""What an old log costs: an allocator that starts, the first join of a room on a fresh server, a replay of the past.

Real nats-server, allocators, agent and mediasoup-worker; the server on which the rooms live is simulated.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import nats

from bench import old_log
from bench.children import child
from bench.figures import Figure, latency, p50
from mafalda.aio.tasks import background
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.archive.store import open_archive
from mafalda.archive.writer import ArchiveConfig, ArchiveWriter
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.client import Client
from mafalda.client import connect as connect_client
from mafalda.contract import subjects
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.snapshot.store import newest_manifest

REPLAYS = 7
WARM_UP_JOINS = 5


async def measure(quick: bool) -> list[Figure]:
    """Ready with and without a snapshot; joins of old rooms and of new ones; replays at times of the whole month."""
    past, living = (50_000, 200) if quick else (5_000_000, 2_000)
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as folder:
        async with (
            run_server(ServerConfig(port=0, store_dir=Path(folder) / "nats")) as server,
            connect(BusConfig(servers=(server.url,))) as bus,
        ):
            entries = await _fill(server.url, bus, past, living)
            without = await _ready(bus, snapshot=True)
            ready = p50([await _ready(bus, snapshot=False) for _ in range(5)])
            _say("ready")
            old, new = await _joins(server.url, bus, 20 if quick else 100, living)
            _say("joined")
            replays, start = await _replays(server.url, bus, Path(folder) / "archive")
    what = f"{entries:,} entries, {living:,} living rooms"
    return [
        Figure("snapshots", f"allocator ready: {what}", ready, "s", without, "read the whole log"),
        latency("snapshots", "first join of an old room on a fresh server", old, new, "a new room"),
        Figure("snapshots", "mafalda replay --at, median", p50(replays), "s", start, "mafalda --help"),
        Figure("snapshots", "mafalda replay --at, longest", max(replays), "s", start, "mafalda --help"),
    ]


def _say(stage: str) -> None:
    """Say how far it is, since all of it takes a quarter of an hour."""
    click.echo(f"snapshots: {stage}", err=True)


async def _fill(url: str, bus: NatsBus, past: int, living: int) -> int:
    client = await nats.connect(url)
    try:
        entries = await old_log.fill(client, past, living)
    finally:
        await client.close()
    stored = await bus.last_seq()
    if stored != entries:
        raise RuntimeError(f"the log has {stored:,} of {entries:,} entries")
    _say(f"{entries:,} entries")
    return entries


async def _ready(bus: NatsBus, *, snapshot: bool) -> float:
    """Seconds until an allocator is ready; with ``snapshot`` it then writes one."""
    ready = asyncio.Event()
    config = AllocatorConfig(snapshot_interval_s=0.1 if snapshot else 3_600, log_keep_s=None, log_keep_bytes=None)
    start = time.perf_counter()
    async with background(run_allocator(bus, config, ready=ready, counters=Counter()), "allocator"):
        await ready.wait()
        took = time.perf_counter() - start
        while snapshot and await newest_manifest(bus) is None:  # noqa: ASYNC110 - in NATS
            await asyncio.sleep(0.1)
    return took


# --- joins -----------------------------------------------------------------------------------------


async def _joins(url: str, bus: NatsBus, rooms: int, living: int) -> tuple[list[float], list[float]]:
    """Seconds of the first join of rooms that live elsewhere, and of new ones, by turns."""
    old, new = [], []
    agent = ["agent", "--server", "fresh", "--workers", "1", "--listen-ip", "127.0.0.1", "--drain-grace", "0"]
    async with _full_server(bus), _mafalda(url, "allocator"), _mafalda(url, *agent), connect_client(url) as client:
        for index in range(WARM_UP_JOINS):
            await _join(client, f"warm-{index}")
        for index in range(rooms):
            old.append(await _join(client, old_log.living(index * 7 % living)))
            new.append(await _join(client, f"new-{index:07d}"))
    return old, new


@asynccontextmanager
async def _mafalda(url: str, *arguments: str) -> AsyncIterator[None]:
    async with child("-m", "mafalda", *arguments, "--nats-url", url, "--stop-with-stdin"):
        yield


async def _join(client: Client, room: str) -> float:
    start = time.perf_counter()
    async with client.join(room, "late") as joined:
        took = time.perf_counter() - start
        if joined.server != "fresh":
            raise RuntimeError(f"{room} is on {joined.server}")
    return took


@asynccontextmanager
async def _full_server(bus: NatsBus) -> AsyncIterator[None]:
    """The living rooms' server goes on reporting, and has no room for anybody else."""
    worker = WorkerLoad(worker=old_log.WORKER, pid=100, cpu_ratio=0.99)
    load = ServerLoad(server=old_log.SERVER, incarnation="i1", interval_s=1, cpu_count=1, cpu_ratio=1, workers=[worker])
    subject = subjects.load(old_log.SERVER)

    async def report() -> None:
        while True:
            await bus.publish(subject, compose(load, subject=subject, source="/bench/snapshots"))
            await asyncio.sleep(1)

    async with background(report(), "loads"):
        yield


# --- replays ---------------------------------------------------------------------------------------


async def _replays(url: str, bus: NatsBus, folder: Path) -> tuple[list[float], float]:
    """Seconds of ``mafalda replay --at`` at times of the whole month, and of a command that reads nothing."""
    writer = ArchiveWriter(bus, open_archive(str(folder)), ArchiveConfig())
    await writer.open()
    written = await writer.write_all()
    _say(f"{len(written)} segments archived")
    times = [old_log.BEGIN + old_log.LENGTH * (number + 0.9) / REPLAYS for number in range(REPLAYS)]
    options = ["--nats-url", url, "--archive", str(folder)]
    took = [await _command("replay", *options, "--at", at.isoformat()) for at in times]
    return took, await _command("--help")


async def _command(*arguments: str) -> float:
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mafalda", *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError(f"mafalda {' '.join(arguments)} failed")
    return time.perf_counter() - start
