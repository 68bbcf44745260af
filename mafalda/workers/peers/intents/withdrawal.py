"""What a peer has that its grants do not permit any more is closed (docs/decisions/0013-http-api.md)."""

from __future__ import annotations

from mafalda.contract.messages import intents
from mafalda.contract.messages.events import ConsumerClosed, ConsumersClosed, DataConsumerClosed
from mafalda.errors import NotGranted
from mafalda.mediasoup import Consumer
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents.producers import withdraw_producer
from mafalda.workers.peers.intents.subscribed import close_consumers
from mafalda.workers.peers.intents.subscriptions import want_no_more
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession


async def apply_grants(session: PeerSession, intent: intents.ApplyGrants, _: Entry) -> Outcome:
    """Close what the peer's present grants do not permit; nothing, if it is no participant with a token.

    Raises:
        BusUnavailable: The grants cannot be read now.
    """
    outcome = done(session.placement, intent, None)
    grants = await session.services.grants(session.room, session.peer)
    if grants is None:
        return outcome
    error = NotGranted("the peer may not publish this any more", peer=session.peer)
    listens = session.lacks_promotion(grants)
    withdrawn = [id for id, it in session.objects.producers.items() if listens or it.kind not in grants.publish]
    withdrawn += [] if grants.data and not listens else list(session.objects.data_producers)
    outcome.events += [await withdraw_producer(session, id, error) for id in withdrawn]
    if not grants.subscribe:
        await _end_receiving(session)
    return outcome


async def _end_receiving(session: PeerSession) -> None:
    """End all subscriptions, close all consumers, and tell the peer. Consumes that wait for a relay are refused."""
    session.objects.reserved.clear()
    for wish in list(session.book.wishes.values()):
        want_no_more(session, wish)
        consumers = session.book.unsubscribe(wish.subscription)
        await close_consumers(session, consumers)
        ended = ConsumersClosed(subscription=wish.subscription, generation=session.generation, consumers=consumers)
        await session.responder.append_peer_event(ended)
    session.services.subscribers.remove(session)
    for id, kept in list(session.objects.consumers.items()):
        await session.objects.close_one(kept.consumer)
        closed: ConsumerClosed | DataConsumerClosed
        if isinstance(kept.consumer, Consumer):
            closed = ConsumerClosed(consumer=id, producer=kept.producer, generation=session.generation, reason="closed")
        else:
            closed = DataConsumerClosed(
                data_consumer=id, data_producer=kept.producer, generation=session.generation, reason="closed"
            )
        await session.responder.append_peer_event(closed)
