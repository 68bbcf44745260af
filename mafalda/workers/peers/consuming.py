"""Consume and consume-data: at once where the producer is, else as soon as a relay brings it.

A consume that waits does not hold up the peer's other intents: it leaves the queue, waits beside it and comes back
at its end. What does not belong here: opening the relay (an allocator orders it, ``mirrors`` does it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mafalda.contract.messages import intents
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult
from mafalda.errors import AlreadyExists, CannotConsume, DeadlineExceeded, MafaldaError, NotFound
from mafalda.mediasoup import Consumer, ortc
from mafalda.projection.state import ProducerState
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.peers.peer import Heard, Outcome, PeerActor
from mafalda.workers.relays.target import RelayTarget

_Open = Callable[[RelayTarget | None], Awaitable[Outcome]]


async def consume(actor: PeerActor, intent: intents.Consume, entry: Entry) -> Outcome | None:
    """Receive a producer; None while it waits for a relay."""
    check_free(actor, intent.consumer)
    actor.transport(intent.transport)
    producer = find_producer(actor, intent.producer, data=False)
    return await when_here(actor, entry, producer, intent.consumer, lambda mirror: _consume(actor, intent, mirror))


async def consume_data(actor: PeerActor, intent: intents.ConsumeData, entry: Entry) -> Outcome | None:
    """Receive a data producer; None while it waits for a relay."""
    check_free(actor, intent.data_consumer)
    actor.transport(intent.transport)
    producer = find_producer(actor, intent.data_producer, data=True)
    return await when_here(
        actor, entry, producer, intent.data_consumer, lambda mirror: _consume_data(actor, intent, mirror)
    )


def check_free(actor: PeerActor, consumer: str) -> None:
    if consumer in actor.consumers or consumer in actor.reserved:
        raise AlreadyExists("the peer has a consumer with this id", consumer=consumer)


def find_producer(actor: PeerActor, producer: str, *, data: bool) -> ProducerState:
    room = actor.services.rooms.room(actor.room)
    found = room.producers.get(producer) if room else None
    if found is None or found.data != data:
        raise NotFound("the room has no such producer", producer=producer)
    return found


# --- waiting for a relay --------------------------------------------------------------------------


async def when_here(
    actor: PeerActor, entry: Entry, producer: ProducerState, consumer: str, open_: _Open
) -> Outcome | None:
    if producer.place == actor.place:
        return await open_(None)
    key = RelayKey(actor.room, producer.producer, actor.place.worker)
    if mirror := actor.services.relay_targets.usable(key):
        return await open_(mirror)
    actor.reserved.add(consumer)
    deadline = asyncio.get_running_loop().time() + actor.services.config.consume_timeout_s
    _park(actor, entry, key, consumer, open_, deadline)
    return None


def _park(actor: PeerActor, entry: Entry, key: RelayKey, consumer: str, open_: _Open, deadline: float) -> None:
    async def wait() -> None:
        error: MafaldaError | None = None
        try:
            await actor.services.relay_targets.waiters.wait(key, deadline, since_seq=entry.seq)
        except TimeoutError:
            waited_s = actor.services.config.consume_timeout_s
            error = DeadlineExceeded("no relay in time", producer=key.producer, waited_s=waited_s)
        except MafaldaError as failed:
            error = failed
        actor.post(lambda: _resume(actor, entry, key, consumer, open_, deadline, error))

    actor.services.tasks.spawn(wait(), f"consume {consumer} waits for its relay")


async def _resume(
    actor: PeerActor,
    entry: Entry,
    key: RelayKey,
    consumer: str,
    open_: _Open,
    deadline: float,
    error: MafaldaError | None,
) -> None:
    """The wait is over: consume, wait on if the relay has gone again, or say no."""
    mirror = actor.services.relay_targets.usable(key)
    if error is None and mirror is None and asyncio.get_running_loop().time() < deadline:
        _park(actor, entry, key, consumer, open_, deadline)
        return
    actor.reserved.discard(consumer)

    async def finish() -> Outcome:
        if error is not None:
            raise error
        if mirror is None:
            raise DeadlineExceeded("no relay in time", producer=key.producer)
        return await open_(mirror)

    await actor.attempt(entry, finish)


# --- on the worker --------------------------------------------------------------------------------


async def _consume(actor: PeerActor, intent: intents.Consume, mirror: RelayTarget | None) -> Outcome:
    transport = actor.transport(intent.transport)
    producer = actor.router.require_producer(intent.producer)
    why_not = ortc.why_cannot_consume(producer.consumable_rtp_parameters, intent.rtp_capabilities)
    if why_not is not None:
        raise CannotConsume(why_not, producer=intent.producer)
    with Wanted(actor, intent.producer, intent.consumer, mirror, paused=intent.paused) as wanted:
        consumer = await transport.consume(
            producer_id=intent.producer,
            rtp_capabilities=intent.rtp_capabilities,
            paused=intent.paused,
            preferred_layers=intent.preferred_layers,
            app_data={"room": actor.room, "peer": actor.peer, "consumer": intent.consumer},
        )
        wanted.keep()
    actor.adopt_consumer(intent.consumer, Heard(consumer, intent.producer, intent.transport, mirror))
    return Outcome(_consume_result(actor, intent, consumer, mirror))


def _consume_result(
    actor: PeerActor, intent: intents.Consume, consumer: Consumer, mirror: RelayTarget | None
) -> ConsumeResult:
    return ConsumeResult(
        consumer=intent.consumer,
        producer=intent.producer,
        transport=intent.transport,
        generation=actor.generation,
        media_kind=consumer.kind,
        type=consumer.type,
        rtp_parameters=consumer.rtp_parameters,
        paused=consumer.paused,
        producer_paused=consumer.producer_paused,
        relayed=mirror is not None,
        score=mirror.scores.shown(consumer) if mirror else consumer.score,
    )


async def _consume_data(actor: PeerActor, intent: intents.ConsumeData, mirror: RelayTarget | None) -> Outcome:
    transport = actor.transport(intent.transport)
    with Wanted(actor, intent.data_producer, intent.data_consumer, mirror, paused=False) as wanted:
        consumer = await transport.consume_data(
            data_producer_id=intent.data_producer,
            app_data={"room": actor.room, "peer": actor.peer, "consumer": intent.data_consumer},
        )
        wanted.keep()
    actor.adopt_consumer(intent.data_consumer, Heard(consumer, intent.data_producer, intent.transport, mirror))
    if consumer.sctp_stream_parameters is None:
        raise MafaldaError("a data consumer without a stream", data_consumer=intent.data_consumer)
    result = ConsumeDataResult(
        data_consumer=intent.data_consumer,
        data_producer=intent.data_producer,
        transport=intent.transport,
        generation=actor.generation,
        sctp_stream_parameters=consumer.sctp_stream_parameters,
        label=consumer.label,
        protocol=consumer.protocol,
        relayed=mirror is not None,
    )
    return Outcome(result)


class Wanted:
    """Keeps a relay from closing while a consumer of it is being made; given back if that fails."""

    def __init__(
        self, actor: PeerActor, producer: str, consumer: str, mirror: RelayTarget | None, *, paused: bool
    ) -> None:
        self._mirrors = actor.services.relay_targets
        self._key = RelayKey(actor.room, producer, actor.place.worker)
        self._who = (actor.peer, consumer)
        self._mirror = mirror
        self._paused = paused
        self._kept = False

    def __enter__(self) -> Wanted:
        if self._mirror is not None:
            self._mirrors.use(self._key, self._who, paused=self._paused)
        return self

    def keep(self) -> None:
        """The consumer is there; it gives back what it takes when it closes."""
        self._kept = True

    def __exit__(self, *_: object) -> None:
        if self._mirror is not None and not self._kept:
            self._mirrors.release(self._key, self._who)
