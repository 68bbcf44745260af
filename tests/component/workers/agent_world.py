"""A small fleet in one process: real agents with real workers on a bus in memory, and the test as their allocator.

Peers here speak the words and send no media; ``agent_media`` has those that do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from mafalda.bus.compose import compose
from mafalda.bus.protocol import GENERATION_HEADER, REPLY_HEADER, Delivery, Expect, Inbox
from mafalda.contract import subjects
from mafalda.contract.messages import commands, intents, results
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.queries import PeerInventory, QueryServer, RelayInventory, ServerInventory
from mafalda.errors import BadInput
from mafalda.mediasoup.install import find_worker_bin
from mafalda.mediasoup.ortc import generate_router_rtp_capabilities
from mafalda.projection.fold import fold
from mafalda.projection.state import State
from mafalda.testing.media import DTLS, OPUS_PARAMETERS, STREAM, VP8_SIMULCAST_PARAMETERS
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.workers.agent import Agent, IncarnationLost, open_agent
from mafalda.workers.config import AgentConfig, default_media_codecs

P = TypeVar("P", bound=Payload)
DEADLINE_S = 60.0
WHY = commands.Explanation(policy="test", summary="the test says so")


@dataclass(slots=True)
class Fleet:
    """The bus and the agents on it."""

    broker: MemoryBroker
    stack: AsyncExitStack
    agents: dict[str, Agent] = field(default_factory=dict)
    followers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _entries: list[tuple[Delivery, Message]] = field(default_factory=list)
    _decoded: int = 0

    @property
    def bus(self) -> MemoryBus:
        """The test's own."""
        return MemoryBus(self.broker, name="test")

    # --- agents -------------------------------------------------------------------------------------

    async def start(self, server: str, *, bus: MemoryBus | None = None, **given: Any) -> Agent:
        """An agent that follows the log until the fleet ends; on a bus of its own unless one is given."""
        given = {
            "workers": 1,
            "worker_bin": find_worker_bin(),
            "report_interval_s": 0.2,
            "relay_unused_s": 0.3,
            "relay_pause_after_s": 0.05,
        } | given
        config = AgentConfig(server=server, **given)
        agent = await self.stack.enter_async_context(open_agent(bus or MemoryBus(self.broker, name=server), config))
        self.agents[server] = agent
        self.followers[server] = follower = asyncio.create_task(agent.follow(), name=f"follow {server}")
        self.stack.push_async_callback(_stop, follower)
        return agent

    def places(self, server: str) -> list[Place]:
        """The living workers of a server, by slot."""
        alive = sorted(self.agents[server].supervisor.alive.values(), key=lambda live: live.slot)
        return [live.place for live in alive]

    # --- the log --------------------------------------------------------------------------------------

    def entries(self) -> list[tuple[Delivery, Message]]:
        """Every readable entry."""
        for delivery in self.broker.entries[self._decoded :]:
            with suppress(BadInput):
                self._entries.append((delivery, decode(delivery.data)))
        self._decoded = len(self.broker.entries)
        return self._entries

    def appended(self, kind: type[P], *, after_seq: int = 0) -> list[P]:
        """All payloads of one type in the log."""
        return [
            message.data
            for delivery, message in self.entries()
            if isinstance(message.data, kind) and delivery.seq > after_seq
        ]

    def state(self) -> State:
        """The fold of the whole log."""
        state = State()
        for delivery in self.broker.entries:
            address = subjects.parse(delivery.subject)
            assert address is not None
            try:
                payload: Payload | None = decode(delivery.data).data
            except BadInput:
                payload = None
            fold(state, delivery.seq, address, payload)
        return state

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, looking again whenever the log has grown (and now and then)."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := holds()):
                    try:
                        async with asyncio.timeout(0.05):
                            await self.broker.wait_beyond(len(self.broker.entries))
                    except TimeoutError:
                        continue
                return found
        except TimeoutError:
            raise AssertionError(f"never: {what}") from None

    async def wait_appended(
        self, kind: type[P], matches: Callable[[P], bool] = lambda _: True, *, after_seq: int = 0
    ) -> P:
        """The first payload of a type that fits, once it is in the log."""
        found: P = await self.until(
            lambda: next((it for it in self.appended(kind, after_seq=after_seq) if matches(it)), None), kind.__name__
        )
        return found

    async def append(self, payload: Payload, subject: str, *, expect: Expect | None = None) -> int:
        """Append something."""
        return (await self.bus.append(subject, compose(payload, subject=subject, source="/test"), expect=expect)).seq

    # --- what an allocator does -------------------------------------------------------------------------

    async def place(
        self,
        room: str,
        peer: str,
        place: Place,
        *,
        generation: int = 1,
        join: str = "",
        **given: Any,
    ) -> None:
        """Append the command; ``given`` are its other fields."""
        order = commands.PlacePeer(
            room=room,
            peer=peer,
            server=place.server,
            worker=place.worker,
            generation=generation,
            join=join or uuid4().hex,
            app_data={"name": peer},
            explanation=WHY,
            **given,
        )
        await self.append(order, subjects.command(room, place.server, order.action))

    async def relay(
        self, room: str, producer: str, source: Place, target: Place, *, data: bool = False, generation: int = 1
    ) -> None:
        order = commands.OpenRelay(
            room=room,
            producer=producer,
            data=data,
            source=source,
            target=target,
            generation=generation,
            explanation=WHY,
        )
        await self.append(order, subjects.command(room, target.server, order.action))

    async def join(self, room: str, peer: str, place: Place, **given: Any) -> Client:
        """A peer that has its place; ``given`` are fields of both its join and the command."""
        client = Client(self, room, peer)
        message = await client.send(intents.Join(app_data={"name": peer}, **given))
        await self.place(room, peer, place, join=message.id, **given)
        await client.answer(message, results.JoinResult)
        return client

    # --- truth -------------------------------------------------------------------------------------------

    async def inventory(self, server: str) -> ServerInventory:
        subject = subjects.agent_request(server, QueryServer.action)
        answer = await self.bus.request(
            subject, compose(QueryServer(), subject=subject, source="/test"), timeout_s=DEADLINE_S
        )
        assert isinstance(answer.data, ServerInventory)
        return answer.data

    async def equals_the_log(self) -> None:
        """What the workers have is, in the end, what the log says."""
        seen: list[Any] = []

        async def compare() -> bool:
            state = self.state()
            found = [await self.inventory(server) for server in sorted(self.agents)]
            real = _comparable_inventories(found)
            logged = _comparable_state(state, set(self.agents))
            seen[:] = [real, logged]
            return real == logged

        for _ in range(200):
            if await compare():
                return
            await asyncio.sleep(0.02)
        real, logged = seen
        assert real == logged


def _comparable_inventories(found: list[ServerInventory]) -> dict[str, Any]:
    def peer(it: PeerInventory) -> tuple[Any, ...]:
        return (
            it.worker,
            it.generation,
            sorted(it.transports),
            sorted([*it.producers, *it.data_producers]),
            sorted([*it.consumers, *it.data_consumers]),
        )

    def relay(it: RelayInventory) -> tuple[Any, ...]:
        return (it.room, it.producer, it.data, it.source.worker, it.target.worker)

    return {
        "workers": sorted(worker for it in found for worker in it.workers),
        "peers": {(one.room, one.peer): peer(one) for it in found for one in it.peers},
        "relays": sorted(relay(one) for it in found for one in it.relays),
    }


def _comparable_state(state: State, servers: set[str]) -> dict[str, Any]:
    peers = {
        (room.room, peer.peer): (
            peer.place.worker,
            peer.generation,
            sorted(peer.transports),
            sorted(it.producer for it in room.producers.values() if it.peer == peer.peer),
            sorted(peer.consumers),
        )
        for room in state.rooms.values()
        for peer in room.peers.values()
        if peer.status != "unplaced" and peer.place.server in servers
    }
    relays = sorted(
        (room.room, it.producer, it.data, it.source.worker, it.target.worker)
        for room in state.rooms.values()
        for it in room.relays.values()
        if it.status == "open" and it.target.server in servers
    )
    workers = sorted(worker for server in servers for worker in state.servers[server].workers)
    return {"workers": workers, "peers": peers, "relays": relays}


@dataclass(slots=True)
class Client:
    """A peer of a room, as far as the bus knows it."""

    fleet: Fleet
    room: str
    peer: str
    generation: int = 1

    async def send(
        self,
        intent: intents.Intent,
        *,
        id: str | None = None,
        inbox: Inbox | None = None,
        generation: str | None = None,
    ) -> Message:
        """Say what it wants; ``generation``: and for which place."""
        subject = subjects.intent(self.room, self.peer, intent.action)
        message = compose(intent, subject=subject, source=f"/test/{self.peer}", id=id)
        headers = {REPLY_HEADER: inbox.subject} if inbox else {}
        if generation is not None:
            headers[GENERATION_HEADER] = generation
        await self.fleet.bus.append(subject, message, headers=headers)
        return message

    async def answer(self, message: Message, kind: type[P]) -> P:
        """The result of an intent.

        Raises:
            MafaldaError: It was rejected.
        """
        action = message.data.action
        subject = subjects.result(self.room, self.peer, action)

        def look() -> Payload | None:
            for delivery, found in self.fleet.entries():
                if delivery.subject == subject and (found.causationid == message.id or action == "join"):
                    return found.data
            return None

        result = await self.fleet.until(look, f"an answer to {action} of {self.peer}")
        if isinstance(result, results.Rejected):
            raise result.error.to_error()
        assert isinstance(result, kind), result
        return result

    async def ask(self, intent: intents.Intent, kind: type[P]) -> P:
        """Say what it wants, await the result."""
        return await self.answer(await self.send(intent), kind)

    async def transport(self, transport: str, **given: Any) -> results.TransportResult:
        """Open one; the full result, with its secrets."""
        async with self.fleet.bus.inbox() as inbox:
            message = await self.send(intents.CreateTransport(transport=transport, **given), inbox=inbox)
            await self.answer(message, results.TransportResult)
            full = decode((await inbox.next(DEADLINE_S)).data).data
        assert isinstance(full, results.TransportResult)
        return full

    async def connect(self, transport: str) -> None:
        await self.ask(intents.ConnectTransport(transport=transport, dtls_parameters=DTLS), results.Done)

    async def produce(
        self, producer: str, transport: str, *, kind: str = "audio", **given: Any
    ) -> results.ProduceResult:
        return await self.ask(self.produce_intent(producer, transport, kind=kind, **given), results.ProduceResult)

    def produce_intent(self, producer: str, transport: str, *, kind: str = "audio", **given: Any) -> intents.Produce:
        parameters = OPUS_PARAMETERS if kind == "audio" else VP8_SIMULCAST_PARAMETERS
        return intents.Produce(
            producer=producer, transport=transport, media_kind=kind, rtp_parameters=parameters, **given
        )

    async def produce_data(self, producer: str, transport: str) -> results.ProduceDataResult:
        return await self.ask(self.produce_data_intent(producer, transport), results.ProduceDataResult)

    def produce_data_intent(self, producer: str, transport: str) -> intents.ProduceData:
        return intents.ProduceData(
            data_producer=producer, transport=transport, sctp_stream_parameters=STREAM, label="chat", protocol="json"
        )

    def consume_intent(self, consumer: str, producer: str, transport: str, **given: Any) -> intents.Consume:
        capabilities = generate_router_rtp_capabilities(default_media_codecs())
        return intents.Consume(
            consumer=consumer, producer=producer, transport=transport, rtp_capabilities=capabilities, **given
        )

    async def consume(self, consumer: str, producer: str, transport: str, **given: Any) -> results.ConsumeResult:
        return await self.ask(self.consume_intent(consumer, producer, transport, **given), results.ConsumeResult)

    async def query(self, query: Payload, kind: type[P]) -> P:
        subject = subjects.query(self.room, self.peer, query.action)
        found = await self.fleet.bus.request(
            subject, compose(query, subject=subject, source=f"/test/{self.peer}"), timeout_s=DEADLINE_S
        )
        assert isinstance(found.data, kind)
        return found.data


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    """A fleet without agents yet."""
    async with AsyncExitStack() as stack:
        yield Fleet(MemoryBroker(), stack)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, IncarnationLost):
        await task
