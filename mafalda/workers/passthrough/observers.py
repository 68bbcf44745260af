"""RTP observers of an application.

For the log, and so for relays, a producer that was added to an observer is consumed: the observer's peer publishes a
consume intent for it, with an id of its own, and closes that consumer to remove the producer.
"""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.results import ConsumeResult
from mafalda.errors import NotFound
from mafalda.media.rtp import RtpParameters
from mafalda.mediasoup.router import passthrough
from mafalda.workers.passthrough.bodies import body_of, channel_answer
from mafalda.workers.passthrough.peer import PassthroughPeer
from mafalda.workers.peers.intents.relay_demand import RelayDemandLease, withdraw_demand
from mafalda.workers.peers.session.objects import ObservedProducer
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.target import RelayTarget


async def create_observer(peer: PassthroughPeer, call: ChannelCall) -> dict[str, Any]:
    """Create an RTP observer; returns the worker's answer."""
    observer, answer = await passthrough.create_observer(peer.session.router, call.method, body_of(call))
    peer.forward_notifications(observer)
    peer.session.objects.add_observer(observer.id, observer)
    return answer


async def add_producer(peer: PassthroughPeer, intent: intents.Consume, relay: RelayTarget | None) -> Outcome:
    """Add a producer to an observer, under the id of the consumer in the intent."""
    session = peer.session
    observer = session.objects.observers.get(intent.transport)
    if observer is None:
        raise NotFound("the peer has no such observer", observer=intent.transport)
    producer = session.router.require_producer(intent.producer)
    with RelayDemandLease(session, intent.producer, intent.consumer, relay, paused=False) as lease:
        await observer.add_producer(producer_id=intent.producer)
        lease.keep()
    session.objects.observed[intent.consumer] = ObservedProducer(intent.transport, intent.producer)
    producer.on(producer.CLOSE, lambda _: _forget(session, intent.consumer))
    result = ConsumeResult(
        consumer=intent.consumer,
        producer=intent.producer,
        transport=intent.transport,
        generation=session.generation,
        media_kind=producer.kind,
        type="simple",
        rtp_parameters=RtpParameters(codecs=()),
        paused=False,
        producer_paused=producer.paused,
        relayed=relay is not None,
    )
    return Outcome(result, private=channel_answer(session, intent, {}))


async def remove_producer(session: PeerSession, intent: intents.CloseConsumer) -> Outcome:
    """Remove from its observer the producer that was added under the consumer id in the intent."""
    observed = session.objects.observed[intent.consumer]
    observer = session.objects.observers.get(observed.observer)
    if observer is not None and session.router.get_producer(observed.producer) is not None:
        await observer.remove_producer(producer_id=observed.producer)
    _forget(session, intent.consumer)
    return done(session.placement, intent, intent.consumer)


def _forget(session: PeerSession, consumer: str) -> None:
    if observed := session.objects.observed.pop(consumer, None):
        withdraw_demand(session, observed.producer, consumer)
