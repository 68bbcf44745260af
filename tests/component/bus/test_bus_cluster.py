"""Three nats-servers with replicated streams: what was acknowledged is read, also from a replica that lags."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import orjson
import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import call
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM, SNAPSHOT_STREAM
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.cluster import run_cluster
from mafalda.bus.nats.server import NatsServer
from mafalda.bus.protocol import Expect
from mafalda.contract import subjects
from mafalda.snapshot.store import read_snapshot, write_snapshot

EVENT, OTHER = subjects.room_event("r", "a"), subjects.room_event("r", "b")
COMMAND = subjects.command("r", "s", "place-peer")

# nats-py leaves the socket of an attempt to connect that timed out, as to a paused server, to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: All deadlines here are those of a busy machine with two cores; nothing waits for them to pass.
PATIENT: dict[str, Any] = {"connect_timeout_s": 60, "append_timeout_s": 60}


class Cluster:
    """Servers by name."""

    def __init__(self, servers: dict[str, NatsServer]) -> None:
        self.servers = servers

    def config(self, **more: Any) -> BusConfig:
        return BusConfig(servers=tuple(s.url for s in self.servers.values()), replicas=3, **(PATIENT | more))

    async def follower_of(self, bus: NatsBus) -> NatsServer:
        """A server that is not the leader of the log; waits for an election."""
        async with asyncio.timeout(60):
            while not (leader := await self._leader(bus)):  # noqa: ASYNC110 - the servers elect it, and send no event
                await asyncio.sleep(0.1)  # the election is asked about again; the deadline ends the loop
        return next(server for name, server in self.servers.items() if name != leader)

    async def leader_of(self, bus: NatsBus, stream: str) -> NatsServer:
        """The leader of a stream."""
        return self.servers[await self._leader(bus, stream)]

    async def _leader(self, bus: NatsBus, stream: str = LOG_STREAM) -> str:
        info = await call(bus.connection, f"STREAM.INFO.{stream}")
        return str(info["cluster"].get("leader", ""))

    @contextmanager
    def paused(self, server: NatsServer) -> Iterator[None]:
        """Stop a server's process while the block runs."""
        os.kill(server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for the module."""
    with asyncio.Runner() as runner:
        running = run_cluster()
        made = runner.run(running.__aenter__())
        try:
            yield Cluster(made.servers)
        finally:
            runner.run(running.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect what nats-py left open here, rather than in another module's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
async def bus(cluster: Cluster, h: Any) -> AsyncIterator[NatsBus]:
    """A bus with an empty log, connected to the log's leader or to any other server."""
    async with connect(cluster.config()) as opened:
        for stream in (LOG_STREAM, LOAD_STREAM, SNAPSHOT_STREAM):
            await call(opened.connection, f"STREAM.PURGE.{stream}")
        yield opened


async def test_the_log_has_three_copies_and_takes_conditional_appends(bus: NatsBus, h: Any) -> None:
    info = await call(bus.connection, f"STREAM.INFO.{LOG_STREAM}")
    assert info["config"]["num_replicas"] == 3
    first = await bus.append(COMMAND, h.message(COMMAND), expect=Expect(subjects.room_commands("r"), 0))
    await bus.append(COMMAND, h.message(COMMAND), expect=Expect(subjects.room_commands("r"), first.seq))


async def test_what_was_acknowledged_is_read(bus: NatsBus, cluster: Cluster, h: Any) -> None:
    """Four writers, each of which reads what it wrote at once, from whichever replica."""

    async def write_and_read(number: int) -> None:
        subject = subjects.room_event(f"r{number}", "a")
        async with connect(cluster.config()) as own:
            mine: list[int] = []
            for _ in range(40):
                mine += await h.append(own, subject)
                assert [d.seq async for d in own.read(subject, after_seq=mine[0] - 1)] == mine

    await asyncio.gather(*(write_and_read(number) for number in range(4)))


@pytest.mark.parametrize("patterns", [(">",), (EVENT, COMMAND)], ids=["all", "some"])
async def test_a_replica_that_was_away_gives_all_or_waits(
    bus: NatsBus, cluster: Cluster, h: Any, patterns: tuple[str, ...]
) -> None:
    """Some consumers are placed on the replica that is away, and made when it is back and behind."""
    base = (await bus.append(OTHER, h.message(OTHER))).seq
    for _ in range(4):

        async def read() -> list[int]:
            return [d.seq async for d in bus.read(*patterns, after_seq=base)]  # noqa: B023

        with cluster.paused(await cluster.follower_of(bus)):
            appended = await asyncio.gather(
                *(bus.append(subject, h.message(subject)) for subject in [EVENT, OTHER] * 150)
            )
            reads = [asyncio.create_task(read()) for _ in range(8)]
            await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        events, others = (sorted(one.seq for one in appended[first::2]) for first in (0, 1))
        expected = sorted(events + others) if patterns == (">",) else events
        assert len(set(events + others)) == 300
        assert await asyncio.gather(*reads) == [expected] * 8
        # Not bus.last_seq(): right after an election the leader may not have applied what was acknowledged before.
        base = max(events + others)


async def test_a_follower_misses_nothing_while_a_replica_is_away(bus: NatsBus, cluster: Cluster, h: Any) -> None:
    base = await bus.last_seq()
    async with (
        connect(cluster.config(audit_interval_s=0.05)) as other,
        other.follow(EVENT, after_seq=base) as follower,
    ):
        written: list[int] = []
        for _ in range(4):
            with cluster.paused(await cluster.follower_of(bus)):
                appended = await asyncio.gather(
                    *(bus.append(subject, h.message(subject)) for subject in [EVENT, OTHER] * 50)
                )
            written += sorted(one.seq for one in appended[::2])
            await other.connection.reconnect()
            assert sorted(await h.take(follower, 50)) == written[-50:]
        assert follower.seq >= written[-1]


async def test_an_id_is_stored_once_when_the_same_message_is_appended_at_once(bus: NatsBus, h: Any) -> None:
    """The second may be answered that the first is still in process (10158); it waits for it."""
    for _ in range(10):
        message = h.message(EVENT, id=uuid4().hex)
        appended = await asyncio.gather(*(bus.append(EVENT, message) for _ in range(8)))
        assert len({one.seq for one in appended}) == 1
        assert sum(not one.duplicate for one in appended) == 1


async def test_connections_find_the_cluster_through_any_server(cluster: Cluster, bus: NatsBus, h: Any) -> None:
    for server in cluster.servers.values():
        async with open_connection(BusConfig(servers=(server.url,), **PATIENT)) as connection:
            assert (await call(connection, f"STREAM.INFO.{LOG_STREAM}"))["config"]["name"] == LOG_STREAM


async def test_snapshots_are_whole_whoever_writes_while_their_leader_stands_still(
    cluster: Cluster, bus: NatsBus, h: Any
) -> None:
    await h.append(bus, *[EVENT] * 20)
    seen = [0]

    async def write(writer: NatsBus) -> None:
        for seq in range(2, 13):
            rooms = {f"r{i}": orjson.dumps({"room": f"r{i}", "peers": [seq]}) for i in range(10)}
            await write_snapshot(writer, seq, {"servers": [seq]}, rooms)

    async def read(reader: NatsBus) -> None:
        while seen[-1] < 12:
            if found := await read_snapshot(reader):
                assert found.fleet == {"servers": [found.seq]}
                assert [room["peers"] for room in found.rooms] == [[found.seq]] * 10
                seen.append(found.seq)

    await write_snapshot(bus, 1, {"servers": [1]}, {f"r{i}": b'{"room":"r%d","peers":[1]}' % i for i in range(10)})
    async with connect(cluster.config()) as other:
        with cluster.paused(await cluster.leader_of(bus, SNAPSHOT_STREAM)):
            async with asyncio.TaskGroup() as group:
                for work in (write(bus), write(other), read(other)):
                    group.create_task(work)
    assert seen == sorted(seen), "no reader goes back"
