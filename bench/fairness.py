"""A join behind a burst of joins in other rooms, next to the same join on a quiet fleet.

A real nats-server and allocators, each a process of its own. The servers are simulated by one process that answers each
placement as agents do, so that the allocators are what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.children import child
from bench.figures import Figure, p50, p99
from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.allocator_report import AllocatorReport
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import decode, encode
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.media.rtp import RtpCapabilities

SERVERS, WORKERS = 50, 8
JOINS_A_ROOM, QUIET_JOINS = 20, 200
_IDLE_S = 2.0
_OWN_ROOMS = 16
#: The parts of a join, by the times at which NATS stored its messages.
STAGES = ("until the intent is stored", "until the placement is stored", "until the result is stored")
_SOURCE = "/bench/fairness"


async def measure(quick: bool) -> list[Figure]:
    """Joins behind a burst, with one allocator and with more of them."""
    joins = 1_000 if quick else 10_000
    runs = {allocators: await _measured(joins, allocators) for allocators in (1, 2, 3)}
    return [figure for allocators, run in runs.items() for figure in _figures(run, runs[1], joins, allocators)]


def _figures(run: Run, alone: Run, joins: int, allocators: int) -> list[Figure]:
    what = f"behind {joins:,}, {allocators} allocator{'s' * (allocators > 1)}"
    quiet, of = p50(run.quiet_s) * 1e3, "a join on a quiet fleet"
    stages = [
        Figure(
            "fairness", f"{stage}, {what}", run.stages[stage] * 1e3, "ms p50", run.quiet_stages[stage] * 1e3, "quiet"
        )
        for stage in STAGES
    ]
    return [
        *(_division(run, alone, allocators) if allocators > 1 else ()),
        Figure("fairness", f"first join {what}", run.behind_s[0] * 1e3, "ms", quiet, of),
        Figure("fairness", f"append at that moment, {what}", run.append_s * 1e3, "ms", quiet, of),
        Figure("fairness", f"joins {what}", p50(run.behind_s) * 1e3, "ms p50", quiet, of, p99(run.behind_s) * 1e3),
        *stages,
        Figure("fairness", f"busiest allocator, {what}", max(run.cpu_s), "s of CPU", max(alone.cpu_s), "one allocator"),
        Figure("fairness", f"all answered, {what}", run.burst_s, "s", alone.burst_s, "one allocator"),
    ]


def _division(run: Run, alone: Run, allocators: int) -> list[Figure]:
    """What a join costs its allocator, and each of the others."""
    decided = sum(run.decided)
    own_ms = sum(alone.cpu_s) / sum(alone.decided) * 1e3
    foreign_ms = (sum(run.cpu_s) / decided * 1e3 - own_ms) / (allocators - 1)
    equal = decided / allocators
    what = f"{allocators} allocators"
    return [
        Figure("fairness", f"a join of another's room, {what}", foreign_ms, "ms of CPU", own_ms, "an own join"),
        Figure("fairness", f"decisions of the busiest, {what}", max(run.decided), "", equal, "equal parts"),
        Figure("fairness", f"decisions of all, {what}", decided, "", run.answered, "joins"),
    ]


@dataclass
class Run:
    """What one burst gave."""

    quiet_s: list[float] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)
    quiet_stages: dict[str, float] = field(default_factory=dict)  # medians of the parts of a join, in seconds
    stages: dict[str, float] = field(default_factory=dict)
    answered: int = 0
    append_s: float = 0.0  # of an append that no allocator acts on, right behind the burst
    burst_s: float = 0.0
    cpu_s: list[float] = field(default_factory=list)  # of each allocator, beyond what it uses when nobody joins
    decided: list[int] = field(default_factory=list)  # by each allocator


async def _measured(joins: int, allocators: int) -> Run:
    run = Run()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_server(ServerConfig(port=0)))
        async with connect(BusConfig(servers=(server.url,))):
            pass  # it makes the streams
        await stack.enter_async_context(child("-m", "bench.fairness", "servers", server.url))
        pids = [
            await stack.enter_async_context(
                child("-m", "mafalda", "allocator", "--nats-url", server.url, "--name", f"a{number}",
                       "--policy", "two-choices", "--stop-with-stdin")
            )
            for number in range(allocators)
        ]  # fmt: skip
        client = await nats.connect(server.url)
        stack.push_async_callback(client.close)
        joiner = Joiner(client)
        await joiner.start()
        run.quiet_s = [await joiner.join() for _ in range(QUIET_JOINS)]
        run.quiet_stages = joiner.take_stages()
        idle = [_cpu_s(pid) for pid in pids]
        await asyncio.sleep(_IDLE_S)
        idle = [(_cpu_s(pid) - before) / _IDLE_S for pid, before in zip(pids, idle, strict=True)]
        before = joiner.decided.copy()
        cpu_before = [_cpu_s(pid) for pid in pids]
        start = time.perf_counter()
        async with child("-m", "bench.fairness", "burst", server.url, str(joins)):  # until all are published
            behind = asyncio.create_task(_join_until(joiner, lambda: joiner.burst_answers >= joins, run.behind_s))
            published = time.perf_counter()
            await client.request(subjects.server_event("nobody", "bench"), b"{}", timeout=60)
            run.append_s = time.perf_counter() - published
            await behind
        run.burst_s = time.perf_counter() - start
        run.stages, run.answered = joiner.take_stages(), joiner.burst_answers + len(run.behind_s)
        used = [_cpu_s(pid) - before for pid, before in zip(pids, cpu_before, strict=True)]
        run.cpu_s = [cpu_s - idle_ratio * run.burst_s for cpu_s, idle_ratio in zip(used, idle, strict=True)]
        await asyncio.sleep(_IDLE_S)  # until all have reported
        run.decided = [count - before[allocator] for allocator, count in joiner.decided.items()]
    return run


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _join_until(joiner: Joiner, is_over: Callable[[], bool], samples: list[float]) -> None:
    async with asyncio.timeout(300):
        while not is_over():
            samples.append(await joiner.join())


class Joiner:
    """Joins rooms of its own, one after the other, and counts the answers of the burst."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._times: dict[tuple[str, str], list[float]] = {}  # of each own join, in the order of ``STAGES``
        self.burst_answers = 0
        self.decided: dict[str, int] = {}  # by each allocator since its start, as it reports

    async def start(self) -> None:
        """Subscribe to the results of all, and to the reports of the allocators."""
        await self._client.subscribe(subjects.ALL_ALLOCATOR_REPORTS, cb=self._reported)
        await self._client.subscribe("live.mafalda.room.*.peer.*.result.join", cb=self._answered)
        for number in range(_OWN_ROOMS):
            for pattern in (subjects.room_commands(f"mine-{number}"), f"mafalda.room.mine-{number}.peer.*.intent.join"):
                await self._client.subscribe(subjects.live(pattern), cb=self._stored)
        await self._client.flush()

    async def _reported(self, message: Msg) -> None:
        report = decode(message.data).data
        if isinstance(report, AllocatorReport):
            self.decided[report.allocator] = report.decided

    async def _answered(self, message: Msg) -> None:
        if answered := self._waiting.pop(message.subject, None):
            await self._stored(message)
            answered.set_result(None)
        else:
            self.burst_answers += 1

    async def _stored(self, message: Msg) -> None:
        address = subjects.parse(message.subject)
        assert address
        command = decode(message.data).data if address.kind == "command" else None
        who = (address.room or "", command.peer if isinstance(command, PlacePeer) else address.peer or "")
        stored_at = datetime.fromisoformat(message.headers["Nats-Time-Stamp"].rstrip("Z")[:26])
        self._times[who].append(stored_at.replace(tzinfo=UTC).timestamp())

    def take_stages(self) -> dict[str, float]:
        """The medians of the parts of all joins since the last call, in seconds."""
        complete = [sorted(times) for times in self._times.values() if len(times) == len(STAGES) + 1]
        self._times.clear()
        return {stage: p50([it[index + 1] - it[index] for it in complete]) for index, stage in enumerate(STAGES)}

    async def join(self) -> float:
        """Seconds from the intent to its result."""
        number = next(self._numbers)
        room, peer = f"mine-{number % _OWN_ROOMS}", f"p{number}"
        answered = asyncio.get_running_loop().create_future()
        self._waiting[subjects.live(subjects.result(room, peer, "join"))] = answered
        self._times[room, peer] = [time.time()]
        start = time.perf_counter()
        await _publish(self._client, subjects.intent(room, peer, "join"), intents.Join())
        await answered
        return time.perf_counter() - start


async def _publish(client: Client, subject: str, payload: Payload, *, cause: str | None = None) -> None:
    message = compose(payload, subject=subject, source=_SOURCE).model_copy(update={"causationid": cause})
    await client.publish(subject, encode(message), headers={"Nats-Msg-Id": message.id})


# --- child processes -----------------------------------------------------------------------------


async def _simulate_servers(client: Client) -> None:
    """Start all servers, answer placements as agents do, and report, until cancelled."""
    acted_on = 0

    async def place(stored: Msg) -> None:
        nonlocal acted_on
        acted_on = int(stored.headers["Nats-Sequence"])
        message = decode(stored.data)
        command = message.data
        if not isinstance(command, PlacePeer):
            return
        place = {"server": command.server, "worker": command.worker, "generation": command.generation}
        joined = events.PeerJoined.model_validate({"peer": command.peer, **place})
        await _publish(client, subjects.room_event(command.room, joined.action), joined, cause=message.id)
        result = results.JoinResult.model_validate({**place, "router_rtp_capabilities": RtpCapabilities()})
        await _publish(client, subjects.result(command.room, command.peer, "join"), result, cause=command.join)

    await client.subscribe("live.mafalda.command.>", cb=place)
    servers = [f"s{number}" for number in range(SERVERS)]
    for server in servers:
        infos = [events.WorkerInfo(worker=f"{server}-{slot}", pid=slot + 1, slot=slot) for slot in range(WORKERS)]
        started = events.ServerStarted(server=server, incarnation="i1", workers=infos, announced_address="127.0.0.1")
        await _publish(client, subjects.server_event(server, started.action), started)
    await client.flush()
    print("ready", flush=True)
    while True:
        for server in servers:
            loads = [WorkerLoad(worker=f"{server}-{slot}", pid=slot + 1, cpu_ratio=0.0) for slot in range(WORKERS)]
            report = ServerLoad(
                server=server, incarnation="i1", as_of_seq=acted_on, interval_s=1, cpu_count=WORKERS, workers=loads
            )
            await _publish(client, subjects.load(server), report)
        await asyncio.sleep(1)


async def _publish_burst(client: Client, joins: int) -> None:
    for number in range(joins):
        subject = subjects.intent(f"burst-{number // JOINS_A_ROOM}", f"p{number}", "join")
        await _publish(client, subject, intents.Join(audience=True))
    await client.flush(timeout=60)
    print("ready", flush=True)


async def _main(what: str, url: str, *numbers: str) -> None:
    """Run one child process until its standard input ends."""
    client = await nats.connect(url, pending_size=64 * 1024 * 1024)
    work = _simulate_servers(client) if what == "servers" else _publish_burst(client, *map(int, numbers))
    async with background(work, what):
        await asyncio.to_thread(sys.stdin.read)
    await client.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
