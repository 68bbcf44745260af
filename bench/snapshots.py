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
import orjson

from bench import old_log
from bench.children import child
from bench.figures import Figure, latency, p50
from mafalda.aio.tasks import background, cancel_and_wait
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
from mafalda.snapshot.store import newest_manifest, read_snapshot, write_snapshot

REPLAYS = 7
WARM_UP_JOINS = 5
READY_RUNS = 5


async def measure(quick: bool) -> list[Figure]:
    """Ready on an old log and on one without a past; joins of old rooms and of new ones; replays of the past."""
    past, living, archived = (50_000, 200, 50_000) if quick else (5_000_000, 2_000, 500_000)
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as folder:
        async with (
            _log(Path(folder) / "young", 0, living) as (_, young),
            _log(Path(folder) / "old", past, living) as (
                url,
                old,
            ),
        ):
            entries = await old.last_seq()
            ready = [(await _ready(old), await _ready(young)) for _ in range(READY_RUNS)]
            _say(f"ready: {ready}")
            joins = await _joins(url, old, 20 if quick else 100, living)
            _say("joined")
            replays, start = await _replays(url, old, Path(folder) / "archive", archived)
    what = f"allocator ready: {entries:,} entries, {living:,} living rooms"
    old_s, young_s = (p50(samples) for samples in zip(*ready, strict=True))
    return [
        Figure("snapshots", what, old_s, "s", young_s, "the living rooms alone"),
        latency("snapshots", "first join of an old room on a fresh server", *joins, "a new room"),
        Figure("snapshots", f"mafalda replay --at, {archived:,} archived", p50(replays), "s", start, "mafalda --help"),
        Figure("snapshots", "the longest of them", max(replays), "s", start, "mafalda --help"),
    ]


def _say(stage: str) -> None:
    """Say how far it is, since all of it takes minutes."""
    click.echo(f"snapshots: {stage}", err=True)


@asynccontextmanager
async def _log(folder: Path, past: int, living: int) -> AsyncIterator[tuple[str, NatsBus]]:
    """A nats-server with a log, and a snapshot as of its end."""
    async with (
        run_server(ServerConfig(port=0, store_dir=folder)) as server,
        connect(BusConfig(servers=(server.url,))) as bus,
    ):
        client = await nats.connect(server.url)
        try:
            seq = await old_log.fill_living(client, living)
            await _ready(bus, writes=True)
            if past:
                seq, ended = await old_log.fill_past(client, past, seq)
                await _write_snapshot(bus, seq, ended)
        finally:
            await client.close()
        if await bus.last_seq() != seq or (await bus.log_usage()).entries != seq:
            raise RuntimeError("the log does not have what was published")
        _say(f"{seq:,} entries")
        yield server.url, bus


async def _write_snapshot(bus: NatsBus, seq: int, ended: dict[str, list[int]]) -> None:
    """Write what an allocator that has read the past writes: the same living rooms, and two numbers of each other one.

    To read the past takes an allocator a minute for each million entries.
    """
    before = await read_snapshot(bus)
    assert before is not None
    rooms = {room["room"]: orjson.dumps(room) for room in before.rooms}
    await write_snapshot(bus, seq, before.fleet | {"idleRooms": ended}, rooms)


async def _ready(bus: NatsBus, *, writes: bool = False) -> float:
    """Seconds until an allocator is ready; with ``writes`` it then writes a snapshot, if there is none."""
    ready = asyncio.Event()
    config = AllocatorConfig(
        snapshot_interval_s=0.1 if writes else 3_600,
        log_keep_s=None,
        log_keep_bytes=None,
        grace_s=3_600,  # the living rooms' server does not report
    )
    start = time.perf_counter()
    async with background(run_allocator(bus, config, ready=ready, counters=Counter()), "allocator"):
        await ready.wait()
        took = time.perf_counter() - start
        while writes and await newest_manifest(bus) is None:  # noqa: ASYNC110 - in NATS
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


async def _replays(url: str, bus: NatsBus, folder: Path, archived: int) -> tuple[list[float], float]:
    """Seconds of ``mafalda replay --at`` at times of the archived past, and of a command that reads nothing."""
    writer = ArchiveWriter(bus, open_archive(str(folder)), ArchiveConfig())
    await writer.open()
    writing = asyncio.create_task(writer.write_complete())
    while writer.archived < archived and not writing.done():  # noqa: ASYNC110 - its segments wake nobody
        await asyncio.sleep(0.1)
    await cancel_and_wait(writing)
    entries = await bus.last_seq()
    _say("archived")
    covered = old_log.LENGTH * (writer.archived / entries)
    times = [old_log.BEGIN + covered * (number + 0.5) / REPLAYS for number in range(REPLAYS)]
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
