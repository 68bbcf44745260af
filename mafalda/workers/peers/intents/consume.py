"""Consume and consume-data: at once if the producer is on the peer's worker, else as soon as a relay brings it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mafalda.contract.messages import intents
from mafalda.contract.messages.events import ClosedReason, ConsumerClosed, DataConsumerClosed
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult, Result
from mafalda.errors import AlreadyExists, CannotConsume, NotFound
from mafalda.media.rtp import RtpCapabilities, SctpStreamParameters
from mafalda.mediasoup import Consumer, DataConsumer, ortc
from mafalda.projection.state import ProducerState
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents.relay_demand import RelayDemandLease, consume_when_relayed, keep_consumer
from mafalda.workers.peers.intents.subscribed import keep_rtp_capabilities
from mafalda.workers.peers.session.objects import PeerConsumer
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.target import RelayTarget

#: Makes a consumer on the worker; returns it with a result for the sender's inbox alone, if there is one.
MakeConsumer = Callable[[RelayTarget | None], Awaitable[tuple[Consumer, Result | None]]]
MakeDataConsumer = Callable[[RelayTarget | None], Awaitable[tuple[DataConsumer, Result | None]]]
#: In results for a data consumer on a direct transport, which has no SCTP stream.
_NO_STREAM = SctpStreamParameters(stream_id=0, ordered=True)


def find_free_producer(session: PeerSession, producer: str, consumer: str, *, data: bool) -> ProducerState:
    """The producer that a new consumer of the peer is to receive, as the room's state has it.

    Args:
        session: Of the peer.
        producer: The producer's id.
        consumer: The client's id of the new consumer.
        data: Whether it is a data producer.

    Raises:
        AlreadyExists: The peer has a consumer with this id.
        NotFound: The room has no such producer.
    """
    if consumer in session.objects.consumers or consumer in session.objects.reserved:
        raise AlreadyExists("the peer has a consumer with this id", consumer=consumer)
    room = session.services.rooms.room(session.room)
    found = room.producers.get(producer) if room else None
    if found is None or found.data != data:
        raise NotFound("the room has no such producer", producer=producer)
    return found


# --- media ----------------------------------------------------------------------------------------


async def open_consumer(
    session: PeerSession, intent: intents.Consume, relay: RelayTarget | None, make: MakeConsumer
) -> Outcome:
    """Open a consumer for a peer, however it is made on the worker.

    Args:
        session: Of the peer.
        intent: The consume intent.
        relay: The relay that brings the producer; ``None``: it is on the peer's worker.
        make: Makes the consumer.

    Raises:
        NotFound: The relay is closing.
        MafaldaError: Whatever ``make`` raises.
    """
    with RelayDemandLease(session, intent.producer, intent.consumer, relay, paused=intent.paused) as lease:
        consumer, private = await make(relay)
        lease.keep()
    kept = PeerConsumer(consumer, intent.producer, intent.transport, relay, is_paused=intent.paused)
    _add(session, intent.consumer, kept)
    result = ConsumeResult(
        consumer=intent.consumer,
        producer=intent.producer,
        transport=intent.transport,
        generation=session.generation,
        media_kind=consumer.kind,
        type=consumer.type,
        rtp_parameters=consumer.rtp_parameters,
        paused=consumer.paused,
        producer_paused=consumer.producer_paused,
        relayed=relay is not None,
        score=relay.scores.shown(consumer) if relay else consumer.score,
    )
    return Outcome(result, private=private)


def _rtp_capabilities(session: PeerSession, intent: intents.Consume) -> RtpCapabilities:
    """What the client can receive, by the intent or by an earlier one, and kept for later ones.

    Raises:
        InvalidParameters: They are malformed.
    """
    if intent.rtp_capabilities.codecs:
        return keep_rtp_capabilities(session, intent.transport, intent.rtp_capabilities)
    return session.objects.rtp_capabilities_of(intent.transport) or intent.rtp_capabilities


async def consume(session: PeerSession, intent: intents.Consume, entry: Entry) -> Outcome | None:
    """Open a consumer for the client's RTP capabilities; ``None`` while it waits for a relay."""
    session.objects.webrtc_transport(intent.transport)
    capabilities = _rtp_capabilities(session, intent)

    async def make(_: RelayTarget | None) -> tuple[Consumer, None]:
        consumer = await session.objects.webrtc_transport(intent.transport).consume(
            producer_id=intent.producer,
            rtp_capabilities=capabilities,
            paused=intent.paused,
            preferred_layers=intent.preferred_layers,
            app_data={"room": session.room, "peer": session.peer, "consumer": intent.consumer},
        )
        return consumer, None

    async def open_(relay: RelayTarget | None) -> Outcome:
        session.objects.webrtc_transport(intent.transport)
        producer = session.router.require_producer(intent.producer)
        why_not = ortc.why_cannot_consume(producer.consumable_rtp_parameters, capabilities)
        if why_not is not None:
            raise CannotConsume(why_not, producer=intent.producer)
        return await open_consumer(session, intent, relay, make)

    producer = find_free_producer(session, intent.producer, intent.consumer, data=False)
    return await consume_when_relayed(session, entry, producer, intent.consumer, open_)


# --- data -----------------------------------------------------------------------------------------


async def open_data_consumer(
    session: PeerSession, intent: intents.ConsumeData, relay: RelayTarget | None, make: MakeDataConsumer
) -> Outcome:
    """Open a data consumer for a peer, however it is made on the worker. As ``open_consumer``."""
    with RelayDemandLease(session, intent.data_producer, intent.data_consumer, relay, paused=False) as lease:
        consumer, private = await make(relay)
        lease.keep()
    _add(session, intent.data_consumer, PeerConsumer(consumer, intent.data_producer, intent.transport, relay))
    result = ConsumeDataResult(
        data_consumer=intent.data_consumer,
        data_producer=intent.data_producer,
        transport=intent.transport,
        generation=session.generation,
        sctp_stream_parameters=consumer.sctp_stream_parameters or _NO_STREAM,
        label=consumer.label,
        protocol=consumer.protocol,
        relayed=relay is not None,
    )
    return Outcome(result, private=private)


async def consume_data(session: PeerSession, intent: intents.ConsumeData, entry: Entry) -> Outcome | None:
    """Open a data consumer; ``None`` while it waits for a relay."""

    async def make(_: RelayTarget | None) -> tuple[DataConsumer, None]:
        consumer = await session.objects.webrtc_transport(intent.transport).consume_data(
            data_producer_id=intent.data_producer,
            app_data={"room": session.room, "peer": session.peer, "consumer": intent.data_consumer},
        )
        return consumer, None

    session.objects.webrtc_transport(intent.transport)
    producer = find_free_producer(session, intent.data_producer, intent.data_consumer, data=True)
    return await consume_when_relayed(
        session,
        entry,
        producer,
        intent.data_consumer,
        lambda relay: open_data_consumer(session, intent, relay, make),
    )


# --- closing --------------------------------------------------------------------------------------


def _add(session: PeerSession, id: str, added: PeerConsumer) -> None:
    """Keep a consumer until it closes; report that to the peer if it closes because of its producer."""

    def closed(cause: str) -> None:
        if cause in ("producerclose", "dataproducerclose") and not session.is_over:
            session.jobs.add(lambda: _report_closed(session, id, added))

    keep_consumer(session, id, added, closed)


async def _report_closed(session: PeerSession, id: str, closed: PeerConsumer) -> None:
    reason: ClosedReason = closed.relay.state.reason if closed.relay else "producer-closed"
    event: ConsumerClosed | DataConsumerClosed
    if isinstance(closed.consumer, DataConsumer):
        event = DataConsumerClosed(
            data_consumer=id, data_producer=closed.producer, generation=session.generation, reason=reason
        )
    else:
        event = ConsumerClosed(consumer=id, producer=closed.producer, generation=session.generation, reason=reason)
    await session.responder.append_peer_event(event)
