"""Measure the allocator's pure core with 1,000 servers of 16 workers: decisions, load reports, folding the log.

There is no NATS and no event loop. Times are CPU seconds of one process, since the machine is shared. The baseline of a
decision is a scan of all workers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bench.figures import Figure
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.decide.decide import decide
from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.placement.policy import POLICIES
from mafalda.allocator.core.state.fold import fold_entry
from mafalda.allocator.core.state.log_entry import read_entry
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.stimulus import seed_of
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.testing.media import CANDIDATE, DTLS, OPUS_PARAMETERS, ROUTER_CAPABILITIES

SERVERS, WORKERS = 1_000, 16
ROOM_SIZE = 8
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def measure(quick: bool) -> list[Figure]:
    """All figures of this part."""
    return decisions(quick)


def decisions(quick: bool = False) -> list[Figure]:
    """Decisions a second for each policy, load reports and log entries folded a second."""
    count = 500 if quick else 5_000
    figures = [figure for policy in sorted(POLICIES) for figure in _policy(policy, count)]
    return [*figures, _reports(2 if quick else 5), _fold(500 if quick else 5_000)]


class Bench:
    """A view of the whole fleet, and the log that grows in it."""

    def __init__(self, policy: str) -> None:
        self.view = View(AllocatorConfig(policy=policy))
        self.view.begin(0)
        self.seq = 0
        self.rng = random.Random(1)

    def fill(self) -> None:
        """Start all servers, with loads between idle and too busy."""
        for index in range(SERVERS):
            server = f"server-{index:04}"
            workers = [events.WorkerInfo(worker=f"{server}-{slot}", pid=slot + 1, slot=slot) for slot in range(WORKERS)]
            started = events.ServerStarted(
                server=server, incarnation="i1", workers=workers, announced_address="10.0.0.1", region=f"r{index % 4}"
            )
            self.fold(*self.stored(subjects.server_event(server, started.action), started))
            self.view.report(self.load(index), 0)

    def load(self, index: int) -> ServerLoad:
        """A report of one server, with figures of the moment."""
        server = f"server-{index:04}"
        loads = [
            WorkerLoad(worker=f"{server}-{slot}", pid=slot + 1, cpu_ratio=self.rng.random() * 0.8)
            for slot in range(WORKERS)
        ]
        return ServerLoad(
            server=server, incarnation="i1", as_of_seq=self.seq, interval_s=1, cpu_count=WORKERS, workers=loads
        )

    def stored(
        self, subject: str, payload: Payload, *, id: str | None = None, cause: str | None = None
    ) -> tuple[int, str, bytes]:
        """A log entry."""
        self.seq += 1
        message = Message(
            id=id or f"m{self.seq}",
            source="/bench",
            type=payload.type_name(),
            subject=subject,
            time=NOON,
            causationid=cause,
            data=payload,
        )
        return self.seq, subject, encode(message)

    def fold(self, seq: int, subject: str, raw: bytes) -> None:
        if entry := read_entry(seq, subject, raw):
            fold_entry(self.view, entry, 0)

    def join(self, index: int) -> OpenIntent:
        """A join: eight peers to a room."""
        room, peer = f"room-{index // ROOM_SIZE}", f"peer-{index}"
        join = intents.Join(region=f"r{index % 4}")
        seq, subject, raw = self.stored(subjects.intent(room, peer, "join"), join)
        self.fold(seq, subject, raw)
        intent = self.view.open_intents.get(seq)
        assert intent is not None
        return intent

    def decide(self, intent: OpenIntent) -> Decision:
        return decide(self.view, intent, 0, random.Random(seed_of(intent)))

    def commit(self, decision: Decision) -> None:
        for append in decision.appends:
            self.fold(*self.stored(append.subject, append.payload, id=append.id, cause=append.causation))

    def scan(self) -> object:
        """The busiest worker below the watermark, by looking at all."""
        fit = (worker for worker in self.view.fleet.workers.values() if not worker.obstacle and worker.load < 580_000)
        return max(fit, key=lambda worker: (worker.used, worker.load, worker.key))


def _policy(policy: str, count: int) -> Iterator[Figure]:
    """Each decision is folded before the next, so that every decision has another fleet to look at."""
    bench = Bench(policy)
    bench.fill()
    for index in range(ROOM_SIZE * 10):  # the orders are built, some workers are in use
        bench.commit(bench.decide(bench.join(index)))
    deciding = committing = 0.0
    for index in range(ROOM_SIZE * 10, ROOM_SIZE * 10 + count):
        intent = bench.join(index)
        start = time.process_time()
        decision = bench.decide(intent)
        decided = time.process_time()
        bench.commit(decision)
        deciding += decided - start
        committing += time.process_time() - decided
        assert isinstance(decision.commands[0].payload, PlacePeer)
    scans = 20
    start = time.process_time()
    for _ in range(scans):
        bench.scan()
    scan_s = (time.process_time() - start) / scans
    of = f"{SERVERS * WORKERS:,} workers"
    yield Figure("decisions", f"{policy}: decide, {of}", count / deciding, "/s", 1 / scan_s, "a scan")
    yield Figure("decisions", f"{policy}: decide, encode, fold", count / (deciding + committing), "/s")


def _reports(rounds: int) -> Figure:
    """All servers report, each worker with another load than before."""
    bench = Bench("pack")
    bench.fill()
    bench.commit(bench.decide(bench.join(0)))
    reports = [bench.load(index) for _ in range(rounds) for index in range(SERVERS)]
    start = time.process_time()
    for report in reports:
        bench.view.report(report, 0)
    took = time.process_time() - start
    return Figure("decisions", f"reports of {WORKERS} workers taken in", len(reports) / took, "/s")


def _fold(peers: int) -> Figure:
    """A log of whole memberships, read and folded as a starting allocator does."""
    writer = Bench("pack")
    writer.fill()
    log = [entry for index in range(peers) for entry in _membership(writer, index)]
    reader = Bench("pack")
    reader.fill()
    reader.view.liveness.begun = False
    start = time.process_time()
    for entry in log:
        reader.fold(*entry)
    took = time.process_time() - start
    return Figure("decisions", f"log entries folded ({len(log):,})", len(log) / took, "/s")


def _membership(bench: Bench, index: int) -> Iterator[tuple[int, str, bytes]]:
    """Join, two transports, one producer, one consumer, leave: what a short call writes into the log."""
    room, peer = f"room-{index // ROOM_SIZE}", f"peer-{index}"
    intent = bench.join(index)
    yield intent.seq, subjects.intent(room, peer, "join"), intent.raw
    (placement,) = bench.decide(intent).commands
    command = placement.payload
    assert isinstance(command, PlacePeer)

    def append(subject: str, payload: Payload, cause: str | None = None) -> tuple[int, str, bytes]:
        entry = bench.stored(subject, payload, cause=cause)
        bench.fold(*entry)
        return entry

    place = {"server": command.server, "worker": command.worker, "generation": 1}
    yield append(placement.subject, command)
    yield append(subjects.room_event(room, "peer-joined"), events.PeerJoined.model_validate({"peer": peer, **place}))
    welcome = results.JoinResult.model_validate({**place, "router_rtp_capabilities": ROUTER_CAPABILITIES})
    yield append(subjects.result(room, peer, "join"), welcome)
    for name in ("send", "receive"):
        intent_entry = append(subjects.intent(room, peer, "create-transport"), intents.CreateTransport(transport=name))
        yield intent_entry
        opened = results.TransportResult(transport=name, generation=1, ice_candidates=[CANDIDATE], dtls_parameters=DTLS)
        yield append(subjects.result(room, peer, "create-transport"), opened, f"m{intent_entry[0]}")
    producer = {"producer": f"{peer}-mic", "transport": "send", "media_kind": "audio"}
    produce = intents.Produce.model_validate({**producer, "rtp_parameters": OPUS_PARAMETERS})
    intent_entry = append(subjects.intent(room, peer, "produce"), produce)
    yield intent_entry
    event = events.ProducerOpened.model_validate({**producer, **place, "peer": peer, "type": "simple"})
    yield append(subjects.room_event(room, "producer-opened"), event)
    produced = results.ProduceResult(producer=f"{peer}-mic", transport="send", generation=1, type="simple")
    yield append(subjects.result(room, peer, "produce"), produced, f"m{intent_entry[0]}")
    consume = intents.Consume(
        consumer="c", transport="receive", producer=f"{peer}-mic", rtp_capabilities=ROUTER_CAPABILITIES
    )
    intent_entry = append(subjects.intent(room, peer, "consume"), consume)
    yield intent_entry
    consumed = results.ConsumeResult.model_validate(
        {"consumer": "c", "producer": f"{peer}-mic", "transport": "receive", "generation": 1, "media_kind": "audio",
         "type": "simple", "rtp_parameters": OPUS_PARAMETERS, "paused": True, "producer_paused": False,
         "relayed": False}
    )  # fmt: skip
    yield append(subjects.result(room, peer, "consume"), consumed, f"m{intent_entry[0]}")
    if index % 2:
        yield append(subjects.room_event(room, "peer-left"), events.PeerLeft(peer=peer, generation=1))
