"""What a peer wants of the consumers that it has.

What does not belong here: how it gets them (``consuming``).
"""

from __future__ import annotations

from mafalda.contract.messages import intents
from mafalda.errors import NotFound
from mafalda.mediasoup import Consumer
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.peers.peer import Heard, Outcome, PeerActor, done


def _heard(actor: PeerActor, consumer: str) -> Heard:
    if found := actor.consumers.get(consumer):
        return found
    raise NotFound("the peer has no such consumer", consumer=consumer)


def _consumer(actor: PeerActor, consumer: str) -> Consumer:
    found = _heard(actor, consumer).consumer
    if not isinstance(found, Consumer):
        raise NotFound("the peer has no such consumer, but a data consumer", consumer=consumer)
    return found


def _want(actor: PeerActor, consumer: str, *, paused: bool) -> None:
    """Tell the relay that feeds a consumer, if one does."""
    heard = actor.consumers.get(consumer)
    if heard and heard.mirror and actor.services.relay_targets.by_key.get(heard.mirror.key) is heard.mirror:
        key = RelayKey(actor.room, heard.producer, actor.place.worker)
        actor.services.relay_targets.use(key, (actor.peer, consumer), paused=paused)


async def pause_consumer(actor: PeerActor, intent: intents.PauseConsumer, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).pause()
    _want(actor, intent.consumer, paused=True)
    return done(actor, intent, intent.consumer)


async def resume_consumer(actor: PeerActor, intent: intents.ResumeConsumer, _: Entry) -> Outcome:
    consumer = _consumer(actor, intent.consumer)
    _want(actor, intent.consumer, paused=False)
    await consumer.resume()
    return done(actor, intent, intent.consumer)


async def close_consumer(actor: PeerActor, intent: intents.CloseConsumer, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).close()
    return done(actor, intent, intent.consumer)


async def close_data_consumer(actor: PeerActor, intent: intents.CloseDataConsumer, _: Entry) -> Outcome:
    heard = _heard(actor, intent.data_consumer)
    if isinstance(heard.consumer, Consumer):
        raise NotFound("the peer has no such data consumer, but a consumer", data_consumer=intent.data_consumer)
    await heard.consumer.close()
    return done(actor, intent, intent.data_consumer)


async def set_preferred_layers(actor: PeerActor, intent: intents.SetPreferredLayers, _: Entry) -> Outcome:
    consumer = _consumer(actor, intent.consumer)
    await consumer.set_preferred_layers(spatial_layer=intent.spatial_layer, temporal_layer=intent.temporal_layer)
    return done(actor, intent, intent.consumer)


async def set_priority(actor: PeerActor, intent: intents.SetPriority, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).set_priority(intent.priority)
    return done(actor, intent, intent.consumer)


async def request_key_frame(actor: PeerActor, intent: intents.RequestKeyFrame, _: Entry) -> Outcome:
    await _consumer(actor, intent.consumer).request_key_frame()
    return done(actor, intent, intent.consumer)
