"""A scripted fleet: it answers a client's intents as an allocator and an agent would, without any worker.

Its transports are real to the client up to the ICE checks, which get no answer from a socket that nobody reads.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.batches import read_intents
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import events, intents, queries, results
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.subscriptions import ConsumerFormat, SubscribedConsumer
from mafalda.errors import MafaldaError, NotFound
from mafalda.media.rtp import RtpCodecParameters, RtpEncodingParameters, RtpParameters
from mafalda.media.transport import IceCandidate, SctpParameters, SctpStreamParameters
from mafalda.testing.media import DTLS, ICE, ROUTER_CAPABILITIES

SOURCE = "/mafalda/test/scripted-fleet"


def sent_parameters(kind: str, mid: str) -> RtpParameters:
    """What a consumer of audio or video is sent."""
    codecs = {
        "audio": (RtpCodecParameters(mime_type="audio/opus", clock_rate=48000, channels=2, payload_type=100),),
        "video": (RtpCodecParameters(mime_type="video/VP8", clock_rate=90000, payload_type=101),),
    }
    return RtpParameters(mid=mid, codecs=codecs[kind], encodings=(RtpEncodingParameters(ssrc=5000 + int(mid)),))


class ScriptedFleet:
    """Has peers and producers, and answers otherwise where a test sets it."""

    def __init__(self, bus: Bus, port: int) -> None:
        self.bus = bus
        self.intents: list[intents.Intent] = []
        self.refusing: dict[str, MafaldaError] = {}
        self.ignoring: set[str] = set()
        self.ignored: list[Message] = []
        self.silent_inbox = False
        self.queries = 0
        self.generations: dict[tuple[str, str], int] = {}
        self.producers: dict[str, events.ProducerOpened | events.DataProducerOpened] = {}
        self.app_data: dict[tuple[str, str], dict[str, object]] = {}
        self._port = port
        self._progress = asyncio.Condition()
        self._consumers = 0

    async def seen(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until the intents and queries so far satisfy a condition."""
        async with asyncio.timeout(timeout_s), self._progress:
            await self._progress.wait_for(condition)

    def received(self, kind: type[intents.Intent]) -> list[intents.Intent]:
        return [intent for intent in self.intents if isinstance(intent, kind)]

    # --- what happens in the fleet -----------------------------------------------------------------

    async def publish(self, room: str, event: events.Event) -> None:
        await self._append(subjects.room_event(room, event.action), event)

    async def publish_peer_event(self, room: str, peer: str, event: events.Event) -> None:
        await self._append(subjects.peer_event(room, peer, event.action), event)

    async def move(self, room: str, peer: str, *, handover: bool = False) -> int:
        """Place a peer anew, as after its worker's death, or while its server drains."""
        generation = self.generations[room, peer] = self.generations[room, peer] + 1
        gone = [] if handover else [key for key, opened in self.producers.items() if opened.peer == peer]
        for key in gone:
            del self.producers[key]
        place = {"server": "s1", "worker": f"s1-0-w{generation}"}
        cause: PlacementCause = "drain" if handover else "worker-died"
        await self.publish(
            room, events.PeerMoved(peer=peer, generation=generation, cause=cause, handover=handover, **place)
        )
        placed = self._placement(generation).model_copy(update={"handover": handover})
        await self._append(subjects.result(room, peer, "join"), placed)
        return generation

    async def open_elsewhere(self, room: str, opened: events.ProducerOpened | events.DataProducerOpened) -> None:
        """Another peer opens a producer."""
        key = opened.data_producer if isinstance(opened, events.DataProducerOpened) else opened.producer
        self.producers[key] = opened
        await self.publish(room, opened)

    async def announce(self, room: str, peer: str, subscription: str, *producers: str) -> list[str]:
        """Make consumers for a subscription at the peer's last transport; returns their ids."""
        transport = self.received(intents.CreateTransport)[-1]
        assert isinstance(transport, intents.CreateTransport)
        generation, made = self.generations[room, peer], []
        for producer in producers:
            self._consumers += 1
            sent = sent_parameters("audio", str(self._consumers))
            common = ConsumerFormat(format=0, codecs=list(sent.codecs))
            consumer = SubscribedConsumer(
                consumer=f"c{generation}-{self._consumers}",
                producer=producer,
                kind="audio",
                type="simple",
                format=0,
                mid=sent.mid,
                encodings=list(sent.encodings),
            )
            made.append(consumer.consumer)
            opened = events.ConsumersOpened(
                subscription=subscription,
                transport=transport.transport,
                generation=generation,
                consumers=[consumer],
                formats=[common],
            )
            await self.publish_peer_event(room, peer, opened)
        return made

    async def answer_ignored(self, room: str, peer: str) -> None:
        """Answer the intents of a peer that were ignored, and ignore none any more."""
        self.ignoring.clear()
        for message in self.ignored:
            assert isinstance(message.data, intents.Intent)
            result = await self._do(room, peer, message.data)
            await self._append(subjects.result(room, peer, message.data.action), result, cause=message)

    # --- answering -----------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        patterns = ("mafalda.room.*.peer.*.query.room", "mafalda.room.*.peer.*.query.transport")
        async with self.bus.follow(subjects.ALL_INTENTS) as intents_log, self.bus.serve(*patterns, handler=self._query):
            ready.set()
            async for delivery in intents_log:
                message = decode(delivery.data)
                batched = [item for item, _ in read_intents(message)]  # each answered by itself
                for intent in batched or [message]:
                    await self._answer(delivery, intent)
                async with self._progress:
                    self._progress.notify_all()

    async def _answer(self, delivery: Delivery, message: Message) -> None:
        address, intent = subjects.parse(delivery.subject), message.data
        assert address is not None
        assert address.room is not None
        assert address.peer is not None
        assert isinstance(intent, intents.Intent)
        self.intents.append(intent)
        if intent.action in self.ignoring:
            self.ignored.append(message)
            return
        room, peer = address.room, address.peer
        try:
            if intent.action in self.refusing:
                raise self.refusing[intent.action]
            result = await self._do(room, peer, intent)
        except MafaldaError as error:
            result = results.Rejected(intent=intent.action, error=ErrorInfo.of(error))
        if isinstance(result, results.TransportResult):
            if not self.silent_inbox:
                inbox = delivery.headers[REPLY_HEADER]
                await self.bus.publish(inbox, compose(result, subject=inbox, source=SOURCE, cause=message))
            result = result.without_secrets()
        await self._append(subjects.result(room, peer, intent.action), result, cause=message)

    async def _do(self, room: str, peer: str, intent: intents.Intent) -> results.Result:
        generation = self.generations.get((room, peer), 0)
        place = {"server": "s1", "worker": f"s1-0-w{generation}"}
        match intent:
            case intents.Join():
                self.generations[room, peer] = generation = generation + 1
                self.app_data[room, peer] = intent.app_data
                joined = events.PeerJoined(
                    peer=peer, server="s1", worker="s1-0-w1", generation=generation, app_data=intent.app_data
                )
                await self.publish(room, joined)
                return self._placement(generation)
            case intents.SetAudience(audience=True):
                await self.publish(room, events.PeerDemoted(peer=peer, generation=generation))
                return results.Done(intent=intent.action, generation=generation)
            case intents.CreateTransport():
                return self._transport(intent.transport, generation)
            case intents.Produce():
                opened = events.ProducerOpened(
                    peer=peer,
                    producer=intent.producer,
                    transport=intent.transport,
                    generation=generation,
                    media_kind=intent.media_kind,
                    type="simple",
                    paused=intent.paused,
                    app_data=intent.app_data,
                    **place,
                )
                await self.open_elsewhere(room, opened)
                return results.ProduceResult(
                    producer=intent.producer, transport=intent.transport, generation=generation, type="simple"
                )
            case intents.ProduceData():
                return results.ProduceDataResult(
                    data_producer=intent.data_producer, transport=intent.transport, generation=generation
                )
            case intents.Consume():
                return self._consume(intent, generation)
            case intents.Subscribe():
                return results.SubscribeResult(**dict(intent.wish()), generation=generation)
            case intents.ChangeSubscription():
                return results.SubscribeResult(subscription=intent.subscription, generation=generation)
            case intents.ConsumeData():
                stream = SctpStreamParameters(stream_id=0, ordered=True)
                return results.ConsumeDataResult(
                    data_consumer=intent.data_consumer,
                    data_producer=intent.data_producer,
                    transport=intent.transport,
                    generation=generation,
                    sctp_stream_parameters=stream,
                    label="chat",
                    protocol="",
                    relayed=False,
                )
            case _:
                return results.Done(intent=intent.action, target=None, generation=generation)

    def _consume(self, intent: intents.Consume, generation: int) -> results.ConsumeResult:
        opened = self.producers.get(intent.producer)
        if not isinstance(opened, events.ProducerOpened):
            raise NotFound("no such producer", producer=intent.producer)
        self._consumers += 1
        return results.ConsumeResult(
            consumer=intent.consumer,
            producer=intent.producer,
            transport=intent.transport,
            generation=generation,
            media_kind=opened.media_kind,
            type="simple",
            rtp_parameters=sent_parameters(opened.media_kind, str(self._consumers)),
            paused=intent.paused,
            producer_paused=opened.paused,
            relayed=True,
        )

    async def _query(self, delivery: Delivery) -> Message:
        address, message = subjects.parse(delivery.subject), decode(delivery.data)
        assert address is not None
        room, peer = address.room or "", address.peer or ""
        answer: Payload
        self.queries += 1
        async with self._progress:
            self._progress.notify_all()
        if "query" in self.ignoring:
            await asyncio.Event().wait()
        if "query" in self.refusing:
            raise self.refusing["query"]
        if isinstance(message.data, queries.QueryTransport):
            answer = self._transport(message.data.transport, self.generations[room, peer])
        else:
            answer = queries.RoomSnapshot(
                seq=await self.bus.last_seq(),
                peers=[
                    queries.PeerInfo(peer=p, app_data=self.app_data[r, p]) for r, p in self.generations if r == room
                ],
                producers=[
                    queries.ProducerInfo(
                        producer=opened.producer, peer=opened.peer, media_kind=opened.media_kind, paused=opened.paused
                    )
                    for opened in self.producers.values()
                    if isinstance(opened, events.ProducerOpened)
                ],
                data_producers=[],
            )
        return compose(answer, subject=delivery.reply or "answer", source=SOURCE, cause=message)

    def _placement(self, generation: int) -> results.JoinResult:
        return results.JoinResult(
            server="s1",
            worker=f"s1-0-w{generation}",
            generation=generation,
            router_rtp_capabilities=ROUTER_CAPABILITIES,
        )

    def _transport(self, transport: str, generation: int) -> results.TransportResult:
        candidate = IceCandidate(
            foundation="udpcandidate", priority=1076302079, ip="127.0.0.1", protocol="udp", port=self._port, type="host"
        )
        return results.TransportResult(
            transport=transport,
            generation=generation,
            ice_parameters=ICE,
            ice_candidates=[candidate],
            dtls_parameters=DTLS,
            sctp_parameters=SctpParameters(port=5000, os=1024, mis=1024, max_message_size=262144),
        )

    async def _append(self, subject: str, payload: Payload, cause: Message | None = None) -> None:
        result_id = derived_id("result", cause.id) if cause else None
        await self.bus.append(subject, compose(payload, subject=subject, source=SOURCE, cause=cause, id=result_id))


@asynccontextmanager
async def run_scripted_fleet(bus: Bus) -> AsyncIterator[ScriptedFleet]:
    """Answer until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        unread.bind(("127.0.0.1", 0))
        fleet = ScriptedFleet(bus, unread.getsockname()[1])
        ready = asyncio.Event()
        running = asyncio.create_task(fleet.run(ready), name="scripted-fleet")
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield fleet
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled() and (error := running.exception()):
                raise error
