"""How the events and results of transports, producers and consumers change the state."""

from __future__ import annotations

from mafalda.contract.messages import events, results
from mafalda.contract.messages.payload import Place
from mafalda.contract.subjects import Address
from mafalda.projection.lookup import current_peer, placed_peer
from mafalda.projection.removal import remove_consumer, remove_producer, remove_transport
from mafalda.projection.state import ConsumerState, PeerState, ProducerState, State
from mafalda.projection.subscriptions import unsubscribed


def transport_opened(state: State, address: Address, result: results.TransportResult) -> None:
    """Add a transport to its peer."""
    peer = placed_peer(state, address.room, address.peer, result.generation)
    if peer and address.action == "create-transport":
        _add_transport(peer, result.transport)


def channel_answered(state: State, address: Address, answer: results.ChannelAnswer) -> None:
    """Add a transport that was made by a worker channel request of a drop-in."""
    peer = placed_peer(state, address.room, address.peer, answer.generation)
    if peer and answer.accepted and answer.target is not None and address.action == "create-transport":
        _add_transport(peer, answer.target)


def _add_transport(peer: PeerState, transport: str) -> None:
    peer.transports.add(transport)
    peer.lease_s = None  # the place is used


def transport_closed(state: State, address: Address, event: events.TransportClosed) -> None:
    """Remove a transport with its producers and consumers."""
    if peer := current_peer(state, address.room, address.peer, event.generation):
        remove_transport(state, state.rooms[address.room or ""], peer, event.transport)


def producer_opened(state: State, address: Address, event: events.ProducerOpened | events.DataProducerOpened) -> None:
    """Add a producer, if it is on its peer's worker and its id is free in the room."""
    peer = placed_peer(state, address.room, event.peer, event.generation)
    if peer is None or peer.place != Place(server=event.server, worker=event.worker):
        return
    if isinstance(event, events.DataProducerOpened):
        opened = ProducerState(event.data_producer, event.peer, event.transport, peer.place, event.generation, True)
        opened.label, opened.protocol = event.label, event.protocol
    else:
        opened = ProducerState(event.producer, event.peer, event.transport, peer.place, event.generation, False)
        opened.media_kind, opened.type, opened.paused = event.media_kind, event.type, event.paused
    opened.app_data = event.app_data
    if state.rooms[address.room or ""].producers.setdefault(opened.producer, opened) is opened:
        peer.producers.add(opened.producer)


def producer_paused(state: State, address: Address, event: events.ProducerPaused | events.ProducerResumed) -> None:
    """Set or clear a producer's pause."""
    room = state.rooms.get(address.room or "")
    producer = room.producers.get(event.producer) if room else None
    if producer and producer.peer == event.peer:
        producer.paused = isinstance(event, events.ProducerPaused)


def producer_closed(state: State, address: Address, event: events.ProducerClosed | events.DataProducerClosed) -> None:
    """Remove a producer with its relays and consumers."""
    room = state.rooms.get(address.room or "")
    key = event.data_producer if isinstance(event, events.DataProducerClosed) else event.producer
    producer = room.producers.get(key) if room else None
    if room and producer and producer.peer == event.peer and producer.generation == event.generation:
        remove_producer(state, room, producer)


def consumer_opened(state: State, address: Address, result: results.ConsumeResult | results.ConsumeDataResult) -> None:
    """Add a consumer, if its producer can be consumed on its peer's worker."""
    peer = placed_peer(state, address.room, address.peer, result.generation)
    if peer is None:
        return
    room = state.rooms[address.room or ""]
    if isinstance(result, results.ConsumeDataResult):
        opened = ConsumerState(result.data_consumer, result.data_producer, result.transport, True, False)
    else:
        opened = ConsumerState(result.consumer, result.producer, result.transport, False, result.paused)
    if opened.consumer in peer.consumers or not room.can_consume(opened.producer, peer.place):
        return
    if room.producers[opened.producer].data == opened.data:
        peer.consumers[opened.consumer] = opened
        room.consumers_of.setdefault(opened.producer, set()).add((peer.peer, opened.consumer))


def consumer_closed(state: State, address: Address, event: events.ConsumerClosed | events.DataConsumerClosed) -> None:
    """Remove a consumer."""
    if peer := current_peer(state, address.room, address.peer, event.generation):
        key = event.data_consumer if isinstance(event, events.DataConsumerClosed) else event.consumer
        remove_consumer(state.rooms[address.room or ""], peer, key)


def intent_done(state: State, address: Address, result: results.Done) -> None:
    """Apply an intent whose result says no more than that it was done: close, pause and resume."""
    peer = current_peer(state, address.room, address.peer, result.generation)
    if peer is None or result.target is None:
        return
    room = state.rooms[address.room or ""]
    consumer = peer.consumers.get(result.target)
    match result.intent:
        case "close-transport":
            remove_transport(state, room, peer, result.target)
        case "close-consumer" | "close-data-consumer":
            remove_consumer(room, peer, result.target)
        case "unsubscribe":
            unsubscribed(state, address, result)
        case "pause-consumer" | "resume-consumer" if consumer:
            consumer.paused = result.intent == "pause-consumer"
