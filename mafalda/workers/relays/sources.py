"""The source side of relays: pipes out of our workers, and the producers that are carried over them.

Serves the targets' requests, from this server or another. What does not belong here: the target side (``mirrors``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    Ok,
    PipeConnected,
    ProducerCarried,
    SetCarried,
)
from mafalda.errors import NotFound
from mafalda.media.rtp import CodecMapping, EncodingMapping, RtpMapping
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, PipeTransport, Producer
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.relays.pipes import Locks, PipeKey, describe, join, make_end
from mafalda.workers.relays.scores import Scores
from mafalda.workers.relays.sideband import RelaySideband, Stop
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import Supervisor

log = structlog.get_logger("mafalda.workers")


class Upstream(Protocol):
    """The mirrors, for a carried producer that is itself one: a tree's inner node."""

    def want(self, key: RelayKey, who: Hashable, *, paused: bool) -> None:
        """Somebody further on takes it.

        Raises:
            NotFound: The mirror is closing.
        """

    def drop(self, key: RelayKey, who: Hashable) -> None: ...


#: What sends a producer over the pipe, or the direct data producer whose messages go beside it.
Carrier = Consumer | DataConsumer | DataProducer


@dataclass(slots=True, eq=False)
class _Carry:
    consuming: asyncio.Task[Carrier]
    stops: list[Stop] = field(default_factory=list)  # called when it is carried no more

    @property
    def consumer(self) -> Carrier | None:
        """What carries it, once it is there."""
        done = self.consuming.done() and not self.consuming.cancelled() and self.consuming.exception() is None
        return self.consuming.result() if done else None


@dataclass(slots=True, eq=False)
class _Pipe:
    end: PipeTransport
    carries: dict[str, _Carry] = field(default_factory=dict)


class RelaySources:
    """All pipes out of this server's workers.

    Args:
        config: Ports, encryption.
        tasks: Where pipes are closed.
        supervisor: The workers.
        routers: Their routers.
        upstream: The mirrors, for what is carried on.
        sideband: Carries what a pipe cannot.
        scores: Tells the origin's.
        has_room: Whether anything of a room is here.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        supervisor: Supervisor,
        routers: Routers,
        upstream: Upstream,
        sideband: RelaySideband,
        scores: Scores,
        *,
        has_room: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._supervisor = supervisor
        self._routers = routers
        self._upstream = upstream
        self._sideband = sideband
        self._scores = scores
        self._has_room = has_room
        self._pipes: dict[PipeKey, _Pipe] = {}
        self._locks = Locks()

    def carried(self, worker: str) -> int:
        """How many producers leave a worker over pipes."""
        return sum(len(pipe.carries) for key, pipe in self._pipes.items() if key.source.worker == worker)

    def transports(self) -> list[tuple[str, PipeTransport]]:
        """Every end, by its worker."""
        return [(key.source.worker, pipe.end) for key, pipe in self._pipes.items()]

    # --- what targets ask ---------------------------------------------------------------------------

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected:
        """Make our end of a pipe. An older pipe between the same two is replaced: its target has forgotten it.

        Raises:
            NotFound: We have nothing of this room on that worker.
        """
        key = PipeKey(request.room, request.source, request.target)
        live = self._supervisor.require(key.source.worker)
        if self._routers.existing(key.room, live.id) is None:
            raise NotFound("nothing of the room is on this worker", room=key.room, worker=live.id)
        lock = self._locks.of(key)
        async with lock:
            await self._close(key)
            router = await self._routers.acquire(key.room, live, key)
            try:
                end = await make_end(router, self._config, key, srtp=request.end.srtp_parameters is not None)
                await join(end, request.end)
            except BaseException:
                self._routers.release(key.room, live.id, key)
                raise
            self._pipes[key] = _Pipe(end)
            if not self._has_room(key.room):  # it was forgotten while the end was made
                await self._close(key)
                raise NotFound("nothing of the room is on this worker any more", room=key.room, worker=live.id)
            return PipeConnected(end=describe(end))

    async def carry(self, request: CarryProducer) -> ProducerCarried:
        """Send a producer over a pipe; the same answer however often and however soon it is asked again.

        Raises:
            NotFound: There is no such producer on that worker (any more), or no such pipe.
        """
        key = PipeKey(request.room, request.source, request.target)
        pipe = self._pipes.get(key)
        if pipe is None or pipe.end.closed:
            raise NotFound("no such pipe", room=request.room)
        carry = pipe.carries.get(request.producer)
        if carry is None:
            work = self._consume(key, pipe, request)
            carry = _Carry(asyncio.create_task(work, name=f"carry {request.producer}"))
            pipe.carries[request.producer] = carry
        try:
            consumer = await asyncio.shield(carry.consuming)
        except BaseException:
            if carry.consuming.done():  # it failed; a caller who only gives up leaves it in flight
                self._evict(key, pipe, request.producer, carry)
            raise
        return self._describe(key, consumer)

    async def set_carried(self, request: SetCarried) -> Ok:
        """Pause, resume or end what crosses."""
        key = PipeKey(request.room, request.source, request.target)
        pipe = self._pipes.get(key)
        carry = pipe.carries.get(request.producer) if pipe else None
        consumer = carry.consumer if carry else None
        if pipe is None or carry is None or consumer is None:
            if request.wanted == "closed":
                return Ok()
            raise NotFound("this producer is not carried", producer=request.producer)
        if request.wanted == "closed":
            self._evict(key, pipe, request.producer, carry)
            await self._stop(consumer, carry)
        elif not isinstance(consumer, DataProducer):
            paused = request.wanted == "paused"
            self._tell_upstream(key, request.producer, paused=paused)
            await (consumer.pause() if paused else consumer.resume())
        return Ok()

    async def close_pipe(self, request: ClosePipe) -> Ok:
        """The target's end is gone."""
        key = PipeKey(request.room, request.source, request.target)
        lock = self._locks.of(key)
        async with lock:
            await self._close(key)
        return Ok()

    # --- what the machine tells ---------------------------------------------------------------------

    def stop(self, room: str, producer: str, worker: str, target: Place) -> None:
        """The relay has ended at its target, which could not tell us."""
        key = PipeKey(room, Place(server=self._config.server, worker=worker), target)
        pipe = self._pipes.get(key)
        carry = pipe.carries.get(producer) if pipe else None
        if pipe and carry:
            consumer = carry.consumer
            self._evict(key, pipe, producer, carry)
            if consumer:
                self._tasks.spawn(self._stop(consumer, carry), f"stop carrying {producer}")

    def place_gone(self, place: Place) -> None:
        """A worker is dead: close the pipes to it, forget those from it."""
        self._close_all(lambda key: place in (key.source, key.target))

    def room_gone(self, room: str) -> None:
        """Nothing of the room is here any more."""
        self._close_all(lambda key: key.room == room)

    # --- inside -------------------------------------------------------------------------------------

    async def _consume(self, key: PipeKey, pipe: _Pipe, request: CarryProducer) -> Carrier:
        carry, router = pipe.carries.get(request.producer), self._routers.existing(key.room, key.source.worker)
        if carry is None:
            raise NotFound("this producer is not carried any more", producer=request.producer)
        self._tell_upstream(key, request.producer, paused=False)
        data_producer = router.get_data_producer(request.producer) if router and request.data else None
        consumer: Carrier
        if data_producer is not None and data_producer.type == "direct":
            consumer = data_producer
            carry.stops.append(self._sideband.carry(key, data_producer.id))
        elif request.data:
            consumer = await pipe.end.consume_data(data_producer_id=request.producer)
        else:
            consumer = await pipe.end.consume(producer_id=request.producer)
            if router and (producer := router.get_producer(request.producer)):
                carry.stops.append(self._scores.carry(key, producer))
        carry.stops.append(consumer.on(consumer.CLOSE, lambda _: self._ended(key, pipe, request.producer, consumer)))
        if pipe.carries.get(request.producer) is not carry:  # it was to be carried no more in the meantime
            await self._stop(consumer, carry)
            raise NotFound("this producer is not carried any more", producer=request.producer)
        log.info(
            "producer carried",
            action="producer_carried",
            room_id=key.room,
            producer_id=request.producer,
            worker_id=key.source.worker,
            target=f"{key.target.server}/{key.target.worker}",
        )
        return consumer

    def _describe(self, key: PipeKey, consumer: Carrier) -> ProducerCarried:
        if isinstance(consumer, DataProducer):
            return ProducerCarried(
                label=consumer.label, protocol=consumer.protocol, paused=consumer.paused, direct=True
            )
        if isinstance(consumer, DataConsumer):
            return ProducerCarried(
                sctp_stream_parameters=consumer.sctp_stream_parameters,
                label=consumer.label,
                protocol=consumer.protocol,
                paused=consumer.data_producer_paused,
            )
        router = self._routers.existing(key.room, key.source.worker)
        origin = router.get_producer(consumer.producer_id) if router else None
        if origin is None:
            raise NotFound("the producer has closed", producer=consumer.producer_id)
        return ProducerCarried(
            media_kind=consumer.kind,
            type=origin.type,
            rtp_parameters=consumer.rtp_parameters,
            rtp_mapping=_mapping(origin, consumer) if origin.given_mapping is not None else None,
            scores=list(self._scores.now(key, origin)),
            paused=consumer.producer_paused,
        )

    def _tell_upstream(self, key: PipeKey, producer: str, *, paused: bool) -> None:
        self._upstream.want(RelayKey(key.room, producer, key.source.worker), key, paused=paused)

    def _ended(self, key: PipeKey, pipe: _Pipe, producer: str, consumer: Carrier) -> None:
        carry = pipe.carries.get(producer)
        if carry and carry.consumer is consumer:
            self._evict(key, pipe, producer, carry)

    def _evict(self, key: PipeKey, pipe: _Pipe, producer: str, carry: _Carry) -> None:
        if pipe.carries.get(producer) is carry:
            del pipe.carries[producer]
            _tell_no_more(carry)
            self._upstream.drop(RelayKey(key.room, producer, key.source.worker), key)

    async def _stop(self, consumer: Carrier, carry: _Carry) -> None:
        _tell_no_more(carry)
        if not isinstance(consumer, DataProducer):
            await consumer.close()

    async def _close(self, key: PipeKey) -> None:
        pipe = self._pipes.pop(key, None)
        if pipe is None:
            return
        for producer, carry in list(pipe.carries.items()):
            self._evict(key, pipe, producer, carry)
        try:
            await pipe.end.close()
        finally:
            self._routers.release(key.room, key.source.worker, key)

    def _close_all(self, is_meant: KeyTest) -> None:
        for key in [key for key in self._pipes if is_meant(key)]:
            self._tasks.spawn(self._close(key), f"pipe from {key.source.worker} close")


def _tell_no_more(carry: _Carry) -> None:
    for stop in carry.stops:
        stop()
    carry.stops.clear()


def _mapping(producer: Producer, consumer: Consumer) -> RtpMapping:
    """Back to what the producer is to its router: the pipe has its payload types, and SSRCs of its own."""
    parameters = consumer.rtp_parameters
    origin = producer.consumable_rtp_parameters.encodings
    return RtpMapping(
        codecs=tuple(
            CodecMapping(payload_type=codec.payload_type, mapped_payload_type=codec.payload_type)
            for codec in parameters.codecs
        ),
        encodings=tuple(
            EncodingMapping(ssrc=sent.ssrc, mapped_ssrc=known.ssrc)
            for sent, known in zip(parameters.encodings, origin, strict=True)
            if known.ssrc is not None
        ),
    )


class KeyTest(Protocol):
    """Which pipes are meant."""

    def __call__(self, key: PipeKey, /) -> bool: ...
