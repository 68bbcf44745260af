"""Intents about consumers that a peer has."""

from __future__ import annotations

from mafalda.contract.messages import intents
from mafalda.errors import NotFound, Refused
from mafalda.mediasoup import Consumer, DataConsumer
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.intents.relay_demand import update_demand
from mafalda.workers.peers.session.objects import PeerConsumer
from mafalda.workers.peers.session.responses import Outcome, done
from mafalda.workers.peers.session.session import PeerSession


def _find(session: PeerSession, consumer: str) -> PeerConsumer:
    if found := session.objects.consumers.get(consumer):
        return found
    raise NotFound("the peer has no such consumer", consumer=consumer)


def _consumer(session: PeerSession, consumer: str) -> Consumer:
    found = _find(session, consumer).consumer
    if not isinstance(found, Consumer):
        raise NotFound("the peer has no such consumer, but a data consumer", consumer=consumer)
    return found


async def pause_consumer(session: PeerSession, intent: intents.PauseConsumer, _: Entry) -> Outcome:
    """Pause a consumer."""
    await _consumer(session, intent.consumer).pause()
    _find(session, intent.consumer).is_paused = True
    update_demand(session, intent.consumer, paused=True)
    return done(session.placement, intent, intent.consumer)


async def resume_consumer(session: PeerSession, intent: intents.ResumeConsumer, _: Entry) -> Outcome:
    """Resume a consumer; its relay resumes first. One that is muted flows as soon as it is loud again."""
    consumer = _consumer(session, intent.consumer)
    found = _find(session, intent.consumer)
    if not found.is_muted:
        update_demand(session, intent.consumer, paused=False)
        await consumer.resume()
    found.is_paused = False
    return done(session.placement, intent, intent.consumer)


def _check_own(found: PeerConsumer) -> None:
    """Refuse to close what a subscription would open again."""
    if found.subscription is not None:
        raise Refused("it is a subscription's; change the subscription", subscription=found.subscription)


async def close_consumer(session: PeerSession, intent: intents.CloseConsumer, _: Entry) -> Outcome:
    """Close a consumer."""
    _check_own(_find(session, intent.consumer))
    await _consumer(session, intent.consumer).close()
    return done(session.placement, intent, intent.consumer)


async def close_data_consumer(session: PeerSession, intent: intents.CloseDataConsumer, _: Entry) -> Outcome:
    """Close a data consumer."""
    _check_own(_find(session, intent.data_consumer))
    consumer = _find(session, intent.data_consumer).consumer
    if not isinstance(consumer, DataConsumer):
        raise NotFound("the peer has no such data consumer, but a consumer", data_consumer=intent.data_consumer)
    await consumer.close()
    return done(session.placement, intent, intent.data_consumer)


async def set_preferred_layers(session: PeerSession, intent: intents.SetPreferredLayers, _: Entry) -> Outcome:
    """Choose the layers of a simulcast or SVC consumer."""
    consumer = _consumer(session, intent.consumer)
    await consumer.set_preferred_layers(spatial_layer=intent.spatial_layer, temporal_layer=intent.temporal_layer)
    found = _find(session, intent.consumer)
    update_demand(session, intent.consumer, paused=found.is_paused or found.is_muted)
    return done(session.placement, intent, intent.consumer)


async def set_priority(session: PeerSession, intent: intents.SetPriority, _: Entry) -> Outcome:
    """Set a consumer's priority among those on its transport."""
    await _consumer(session, intent.consumer).set_priority(intent.priority)
    return done(session.placement, intent, intent.consumer)


async def request_key_frame(session: PeerSession, intent: intents.RequestKeyFrame, _: Entry) -> Outcome:
    """Ask a consumer's producer for a key frame."""
    await _consumer(session, intent.consumer).request_key_frame()
    return done(session.placement, intent, intent.consumer)
