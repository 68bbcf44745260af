"""A fleet on an in-memory bus: allocators, scripted agents, a client, and a clock that only the test advances.

The agents append what real agents append, without workers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from mafalda.aio.tasks import background
from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import Address
from mafalda.errors import BadInput, RelayUnavailable
from mafalda.media.rtp import RtpCapabilities
from mafalda.projection.fold import fold
from mafalda.projection.state import State
from mafalda.testing.clock import ManualClock
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus

AnyPayload = TypeVar("AnyPayload", bound=Payload)
DEADLINE_S = 60.0


@dataclass
class Agent:
    """One server. ``obeys``: whether it executes commands; ``fails``: the relays that it cannot open."""

    bus: Bus
    server: str
    workers: list[str]
    incarnation: str = "i1"
    obeys: bool = True
    fails: set[str] = field(default_factory=set)
    cpu: dict[str, float] = field(default_factory=dict)
    seq: int = 0

    async def append(self, subject: str, payload: Payload, cause: Message | None = None) -> None:
        await self.bus.append(subject, compose(payload, subject=subject, source=f"/test/{self.server}", cause=cause))

    async def start(self) -> None:
        infos = [events.WorkerInfo(worker=worker, pid=slot, slot=slot) for slot, worker in enumerate(self.workers)]
        await self.server_event(
            events.ServerStarted(
                server=self.server, incarnation=self.incarnation, workers=infos, announced_address="127.0.0.1"
            )
        )
        await self.report()

    async def server_event(self, event: events.Event) -> None:
        await self.append(subjects.server_event(self.server, event.action), event)

    async def kill(self, worker: str) -> None:
        self.workers.remove(worker)
        await self.server_event(
            events.WorkerDied(server=self.server, incarnation=self.incarnation, worker=worker, signal="SIGKILL")
        )

    async def report(self) -> None:
        loads = [WorkerLoad(worker=worker, pid=1, cpu_ratio=self.cpu.get(worker, 0)) for worker in self.workers]
        load = ServerLoad(
            server=self.server,
            incarnation=self.incarnation,
            as_of_seq=self.seq,
            interval_s=1,
            cpu_count=4,
            workers=loads,
        )
        subject = subjects.load(self.server)
        await self.bus.publish(subject, compose(load, subject=subject, source=f"/test/{self.server}"))

    async def run(self) -> None:
        """Obey commands."""
        async with self.bus.follow(subjects.server_commands(self.server), after_seq=0) as follower:
            async for delivery in follower:
                self.seq = delivery.seq
                try:
                    message = decode(delivery.data)
                except BadInput:
                    continue  # poison is nobody's order
                if self.obeys:
                    await self.obey(message)

    async def obey(self, message: Message) -> None:
        match message.data:
            case commands.PlacePeer() as command if command.worker in self.workers:
                await self.welcome(command, message)
            case commands.OpenRelay() as command:
                ends: dict[str, Any] = command.model_dump(include={"producer", "data", "source", "target"})
                event: events.Event = events.RelayOpened.model_validate(ends)
                if command.producer in self.fails:
                    event = events.RelayFailed.model_validate({**ends, "error": ErrorInfo.of(RelayUnavailable("no"))})
                await self.append(subjects.room_event(command.room, event.action), event, message)

    async def welcome(self, command: commands.PlacePeer, message: Message) -> None:
        place = {"server": command.server, "worker": command.worker, "generation": command.generation}
        event: events.Event
        if command.cause == "join":
            event = events.PeerJoined.model_validate({"peer": command.peer, **place})
        else:
            event = events.PeerMoved.model_validate({"peer": command.peer, "cause": command.cause, **place})
        await self.append(subjects.room_event(command.room, event.action), event, message)
        result = results.JoinResult.model_validate({**place, "router_rtp_capabilities": RtpCapabilities()})
        await self.append(subjects.result(command.room, command.peer, "join"), result, message)


class Fleet:
    """Everything of one test."""

    def __init__(self, broker: MemoryBroker, clock: ManualClock) -> None:
        self.broker = broker
        self.clock = clock
        self.bus = MemoryBus(broker)
        self.agents: dict[str, Agent] = {}
        self.counters: dict[str, Counter[str]] = {}
        self._ids = count(1)
        self._stack: AsyncExitStack | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Fleet]:
        async with AsyncExitStack() as stack:
            self._stack = stack
            yield self

    async def agent(self, server: str, workers: int = 1) -> Agent:
        """Start a server."""
        assert self._stack
        agent = Agent(MemoryBus(self.broker), server, [f"{server}-{slot}" for slot in range(workers)])
        self.agents[server] = agent
        await self._stack.enter_async_context(background(agent.run(), f"agent-{server}"))
        await agent.start()
        return agent

    @asynccontextmanager
    async def allocator(
        self, name: str = "a1", *, bus: Bus | None = None, **config: Any
    ) -> AsyncIterator[Counter[str]]:
        """One allocator while the block runs; it is cut off at the end, in the middle of whatever it does."""
        own_config = AllocatorConfig.model_validate({"name": name, "join_timeout_s": 0, "full_timeout_s": 0, **config})
        ready, counters = asyncio.Event(), Counter[str]()
        self.counters[name] = counters
        work = run_allocator(
            bus or MemoryBus(self.broker),
            own_config,
            clock=self.clock,
            ready=ready,
            counters=counters,
            allocator_id=name,
        )
        async with background(work, name) as task:
            async with asyncio.timeout(DEADLINE_S):
                waiter = asyncio.create_task(ready.wait(), name="ready")
                await asyncio.wait({waiter, task}, return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
            yield counters

    async def acquainted(self, *names: str) -> None:
        """Return when each of these allocators has heard of the others."""
        async with asyncio.timeout(DEADLINE_S):
            while any(self.counters[name]["allocator-new"] < len(names) - 1 for name in names):  # noqa: ASYNC110
                await asyncio.sleep(0)

    # --- a client ------------------------------------------------------------------------------

    async def ask(self, room: str, peer: str, intent: intents.Intent, *, id: str | None = None) -> str:
        """Append an intent; answers its id."""
        subject = subjects.intent(room, peer, intent.action)
        message = compose(intent, subject=subject, source=f"/test/{peer}", id=id or f"intent-{next(self._ids)}")
        await self.bus.append(subject, message)
        return message.id

    async def join(self, room: str, peer: str) -> results.JoinResult | results.Rejected:
        """Join and wait for the answer."""
        before = len(self.broker.entries)
        await self.ask(room, peer, intents.Join())
        answer = await self.answer(room, peer, "join", after_seq=before)
        assert isinstance(answer, results.JoinResult | results.Rejected)
        return answer

    async def answer(self, room: str, peer: str, action: str, *, after_seq: int = 0) -> Any:
        """The first result on a subject after a sequence."""
        subject = subjects.result(room, peer, action)
        entry = await self.wait_for(lambda entry: entry.subject == subject, after_seq=after_seq)
        return decode(entry.data).data

    async def produce(self, room: str, peer: str, producer: str) -> None:
        """What the peer's agent says when it produces."""
        known = self.state().rooms[room].peers[peer]
        event = events.ProducerOpened(
            peer=peer, producer=producer, transport="t", server=known.place.server, worker=known.place.worker,
            generation=known.generation, media_kind="audio", type="simple",
        )  # fmt: skip
        await self.agents[known.place.server].append(subjects.room_event(room, event.action), event)

    async def consume(self, room: str, peer: str, producer: str) -> str:
        """Ask to consume; answers the intent's id."""
        return await self.ask(
            room,
            peer,
            intents.Consume(
                consumer=f"c{next(self._ids)}", transport="t", producer=producer, rtp_capabilities=RtpCapabilities()
            ),
        )

    async def poison(self, subject: str, raw: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Store anything."""
        return self.broker.store(subject, raw, headers or {}).seq

    # --- the log -------------------------------------------------------------------------------------

    async def wait_for(self, wanted: Callable[[Delivery], bool], *, after_seq: int = 0) -> Delivery:
        """The first entry that is wanted, as soon as there is one."""
        seq = after_seq
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await self.broker.wait_beyond(seq)
                entry = self.broker.entries[seq]
                seq += 1
                if wanted(entry):
                    return entry

    async def wait_for_payload(self, kind: type[AnyPayload], *, after_seq: int = 0) -> AnyPayload:
        """The first payload of a kind."""
        entry = await self.wait_for(lambda entry: isinstance(payload_of(entry), kind), after_seq=after_seq)
        payload = payload_of(entry)
        assert isinstance(payload, kind)
        return payload

    def payloads(self, kind: type[AnyPayload]) -> list[AnyPayload]:
        """All payloads of a kind, in order."""
        return [payload for entry in self.broker.entries if isinstance(payload := payload_of(entry), kind)]

    def state(self) -> State:
        """The log's fold."""
        state = State()
        for entry in self.broker.entries:
            address = subjects.parse(entry.subject)
            fold(state, entry.seq, address or Address("none", "none"), payload_of(entry))
        return state

    def place(self, room: str, peer: str) -> Place:
        """Where a peer is."""
        return self.state().rooms[room].peers[peer].place

    async def pass_time(self, seconds: float, *, reporting: bool = True) -> None:
        """Let time pass in small steps; agents that report do so each second."""
        for step in range(round(seconds / 0.25)):
            if reporting and step % 4 == 0:
                for agent in self.agents.values():
                    await agent.report()
            await self.clock.advance(0.25)


def payload_of(entry: Delivery) -> Payload | None:
    """What an entry says, if it says anything."""
    try:
        return decode(entry.data).data
    except BadInput:
        return None


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    """An empty fleet."""
    async with Fleet(MemoryBroker(), ManualClock(1000.0)).open() as fleet:
        yield fleet
