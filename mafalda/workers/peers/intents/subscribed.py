"""The consumers of a peer's subscriptions: made, closed, and told to the peer in batches.

``reconcile`` is a job of the peer's session. Producers of which something changes while it runs are looked at by the
next one, so the more happens, the larger the batches are.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from mafalda.aio.tasks import gather_or_cancel
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import ConsumersClosed, ConsumersOpened
from mafalda.contract.messages.queries import SubscriptionSnapshot
from mafalda.contract.messages.subscriptions import ConsumeFailure, SubscribedConsumer, Subscription
from mafalda.errors import CannotConsume, Closed, InvalidParameters, MafaldaError, NotFound, UnsupportedError
from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup import Consumer, DataConsumer, WebRtcTransport, ortc
from mafalda.workers.core.subscriptions import WantedConsumer
from mafalda.workers.errors import as_mafalda_error
from mafalda.workers.peers.intents.limited import free_consumers, too_many_consumers
from mafalda.workers.peers.intents.relay_demand import RelayDemandLease, keep_consumer, relay_key, update_demand
from mafalda.workers.peers.session.objects import PeerConsumer
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.target import RelayTarget

#: Producers that one job looks at; the jobs behind it come before the next ones.
_MAX_AT_A_TIME = 128
#: Consumers that are requested of the worker at once: few, so that heartbeats come between them on a busy machine too.
_IN_FLIGHT = 16
#: After so many seconds what failed, though it may be possible, is tried again.
_RETRY_S = 1.0
log = structlog.get_logger("mafalda.workers")


def look_at(session: PeerSession, *producers: str) -> None:
    """Something has changed about these producers."""
    session.book.look_at(*producers)
    _enqueue(session)


def look_again(session: PeerSession, producer: str) -> None:
    """A producer was opened, perhaps not for the first time."""
    session.book.opened_again(producer)
    _enqueue(session)


def look_at_all(session: PeerSession) -> None:
    """Something has changed about the subscriptions, or what they need."""
    session.book.look_at_all(session.services.rooms.room(session.room))
    _enqueue(session)


def keep_rtp_capabilities(session: PeerSession, transport: str | None, given: RtpCapabilities) -> RtpCapabilities:
    """Keep what the client can receive on a transport; subscriptions try again what they lacked that for.

    Args:
        session: Of the peer.
        transport: The client's id of the transport; ``None``: the one on which subscriptions receive.
        given: As the client gave them.

    Returns:
        The same capabilities, as they are kept.

    Raises:
        InvalidParameters: They are malformed.
    """
    capabilities = session.services.capabilities.the_same(ortc.validate_rtp_capabilities(given))
    if transport is None:
        transport = next(reversed(session.objects.receivers), None)
    if session.objects.keep_rtp_capabilities(transport, capabilities) and session.book.wishes:
        session.book.forget_refusals()
        look_at_all(session)
    return capabilities


def _look_later(session: PeerSession, producer: str) -> None:
    """Something failed that may succeed in a moment."""
    asyncio.get_running_loop().call_later(_RETRY_S, look_at, session, producer)


def _enqueue(session: PeerSession) -> None:
    if session.book.is_settled or session.is_reconciling or session.is_over:
        return
    session.is_reconciling = True
    session.jobs.add(lambda: _reconcile(session))


async def _reconcile(session: PeerSession) -> None:
    try:
        await _carry_out(session)
    finally:
        session.is_reconciling = False
        _enqueue(session)


async def _carry_out(session: PeerSession) -> None:
    """Close what is not wanted any more of the next producers, open what is, and tell the peer."""
    levels, room = session.services.audio_levels, session.services.rooms.room(session.room)
    plan = session.book.plan(room, _MAX_AT_A_TIME, lambda count: levels.loudest(session.room, count))
    await gather_or_cancel(_set_muted(session, consumer, muted=True) for consumer in plan.mute)
    await gather_or_cancel(_set_muted(session, consumer, muted=False) for consumer in plan.unmute)
    for subscription, consumers in plan.close.items():
        await close_consumers(session, consumers)
        closed = ConsumersClosed(subscription=subscription, generation=session.generation, consumers=consumers)
        await session.responder.append_peer_event(closed)
    by_subscription: dict[str, list[WantedConsumer]] = {}
    for wanted in plan.open:
        by_subscription.setdefault(wanted.subscription.subscription, []).append(wanted)
    for batch in by_subscription.values():
        await _open(session, batch)


# --- opening --------------------------------------------------------------------------------------


class _Receiver(NamedTuple):
    """The transport of a subscription's consumers."""

    id: str
    transport: WebRtcTransport


def _receiver(session: PeerSession, wish: Subscription) -> _Receiver | None:
    """The transport of a subscription; ``None`` while there is none."""
    id = wish.transport or next(reversed(session.objects.receivers), None)
    transport = session.objects.transports.get(id or "")
    if id is None or not isinstance(transport, WebRtcTransport) or transport.closed:
        return None
    return _Receiver(id, transport)


async def _open(session: PeerSession, batch: list[WantedConsumer]) -> None:
    wish = batch[0].subscription
    receiver = _receiver(session, wish)
    if receiver is None:
        return  # all producers are looked at again when there is one
    free = free_consumers(session, len(batch))
    batch, beyond = batch[:free], batch[free:]
    made: list[SubscribedConsumer | ConsumeFailure | None] = []
    made += [_tell_once(session, wanted, too_many_consumers(session)) for wanted in beyond]
    for start in range(0, len(batch), _IN_FLIGHT):
        async with session.live.batches:
            made += await gather_or_cancel(
                _make(session, receiver, wanted) for wanted in batch[start : start + _IN_FLIGHT]
            )
    event = ConsumersOpened(
        subscription=wish.subscription,
        transport=receiver.id,
        generation=session.generation,
        consumers=[it for it in made if isinstance(it, SubscribedConsumer)],
        formats=session.book.take_new_formats(wish.subscription),
        failed=[it for it in made if isinstance(it, ConsumeFailure)],
    )
    if event.consumers or event.failed:
        await session.responder.append_peer_event(event)


async def _make(
    session: PeerSession, receiver: _Receiver, wanted: WantedConsumer
) -> SubscribedConsumer | ConsumeFailure | None:
    """Make one consumer; ``None``: not now, it is looked at again when that may have changed."""
    wish, producer = wanted
    relay: RelayTarget | None = None
    if producer.place != session.place:
        key = relay_key(session, producer.producer)
        relay = session.services.relay_targets.usable(key)
        if relay is None:
            session.services.relay_requests.need(key)
            return None
    consumer_id = session.book.new_id(session.objects.consumers)
    try:
        with RelayDemandLease(session, producer.producer, consumer_id, relay, paused=wish.paused) as lease:
            consumer = await _consume(session, receiver, wanted)
            if consumer is None:
                return None
            lease.keep()
    except (NotFound, Closed):  # the producer, its relay or the transport is closing; another relay may open
        _look_later(session, producer.producer)
        return None
    except (UnsupportedError, InvalidParameters) as error:
        known = CannotConsume(error.reason) if isinstance(error, UnsupportedError) else error
        session.book.refuse(wish.subscription, producer.producer)
        return ConsumeFailure(producer=producer.producer, error=ErrorInfo.of(known))
    except Exception as error:  # whatever it is, the others are told
        return _failed(session, wanted, error)
    kept = PeerConsumer(consumer, producer.producer, receiver.id, relay, wish.subscription, wish.paused)
    _keep(session, consumer_id, kept)
    return _describe(session, consumer_id, kept)


def _failed(session: PeerSession, wanted: WantedConsumer, error: Exception) -> ConsumeFailure | None:
    """As ``_tell_once``, for what should not happen: it is logged."""
    log.warning(
        "consumer not made",
        action="consumer_not_made",
        **session.placement.log_fields,
        producer_id=wanted.producer.producer,
        reason=str(error),
        exc_info=None if isinstance(error, MafaldaError) else error,
    )
    return _tell_once(session, wanted, error)


def _tell_once(session: PeerSession, wanted: WantedConsumer, error: Exception) -> ConsumeFailure | None:
    """A consumer was not made, and is tried again; the peer is told once until it is made."""
    wish, producer = wanted
    _look_later(session, producer.producer)
    if not session.book.fail(wish.subscription, producer.producer):
        return None
    return ConsumeFailure(producer=producer.producer, error=ErrorInfo.of(as_mafalda_error(error)))


async def _consume(session: PeerSession, receiver: _Receiver, wanted: WantedConsumer) -> Consumer | DataConsumer | None:
    """Ask the worker for a consumer; ``None``: the transport, or what is known of its client, does not allow it."""
    wish, producer = wanted
    if producer.data:
        if receiver.transport.sctp_parameters is None:
            return None
        return await receiver.transport.consume_data(data_producer_id=producer.producer)
    capabilities = session.objects.rtp_capabilities_of(receiver.id)
    if capabilities is None:
        return None
    return await receiver.transport.consume(
        producer_id=producer.producer,
        rtp_capabilities=capabilities,
        paused=wish.paused,
        preferred_layers=wish.preferred_layers,
    )


def subscription_snapshot(session: PeerSession, subscription: str) -> SubscriptionSnapshot:
    """The consumers of a subscription as they are now.

    Raises:
        NotFound: The peer has no such subscription.
    """
    if subscription not in session.book.wishes:
        raise NotFound("the peer has no such subscription", subscription=subscription)
    held = session.objects.consumers
    found = {id: held[id] for id in session.book.consumers_of(subscription) if id in held}
    return SubscriptionSnapshot(
        subscription=subscription,
        generation=session.generation,
        transport=next((kept.transport for kept in reversed(found.values())), None),
        consumers=[_describe(session, id, kept) for id, kept in found.items()],
        formats=session.book.formats,
    )


def _describe(session: PeerSession, id: str, kept: PeerConsumer) -> SubscribedConsumer:
    consumer, relayed = kept.consumer, kept.relay is not None
    if isinstance(consumer, DataConsumer):
        return SubscribedConsumer(
            consumer=id,
            producer=kept.producer,
            kind="data",
            relayed=relayed,
            sctp_stream_parameters=consumer.sctp_stream_parameters,
            label=consumer.label,
            protocol=consumer.protocol,
        )
    parameters = consumer.rtp_parameters
    return SubscribedConsumer(
        consumer=id,
        producer=kept.producer,
        kind=consumer.kind,
        type=consumer.type,
        format=session.book.format_of(parameters),
        mid=parameters.mid,
        encodings=list(parameters.encodings),
        rtcp=parameters.rtcp,
        msid=parameters.msid,
        paused=kept.is_paused,
        producer_paused=consumer.producer_paused,
        relayed=relayed,
    )


async def _set_muted(session: PeerSession, id: str, *, muted: bool) -> None:
    """Pause a consumer because others are louder, or let it flow again if its peer wants it to."""
    kept = session.objects.consumers.get(id)
    if kept is None or not isinstance(kept.consumer, Consumer) or kept.is_muted == muted:
        return
    try:
        if not kept.is_paused:
            update_demand(session, id, paused=muted)
            await (kept.consumer.pause() if muted else kept.consumer.resume())
        kept.is_muted = muted
    except (NotFound, Closed):
        return  # it is closing
    except MafaldaError as error:
        log.warning(
            "consumer not muted" if muted else "consumer still muted",
            action="mute_failed",
            **session.placement.log_fields,
            consumer_id=id,
            reason=str(error),
        )
        session.book.set_muted(id, muted=not muted)
        _look_later(session, kept.producer)


# --- closing --------------------------------------------------------------------------------------


def _keep(session: PeerSession, id: str, kept: PeerConsumer) -> None:
    """Keep a consumer until it closes; then its producer is looked at, since the subscription may still want it."""
    session.book.opened(id, kept.subscription or "", kept.producer)

    def closed(cause: str) -> None:
        session.book.closed(id)
        if cause != "close":
            look_at(session, kept.producer)

    keep_consumer(session, id, kept, closed)


async def close_consumers(session: PeerSession, consumers: list[str]) -> None:
    """Close consumers of subscriptions. They are closed here even if the worker does not confirm it."""
    objects = session.objects
    kept = [it for id in consumers if (it := objects.consumers.get(id))]
    await gather_or_cancel(objects.close_one(it.consumer) for it in kept)
