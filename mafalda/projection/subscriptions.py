"""How subscriptions, and the consumers that are made for them, change the state."""

from __future__ import annotations

from mafalda.contract.messages import events, results
from mafalda.contract.subjects import Address
from mafalda.projection.lookup import current_peer, placed_peer
from mafalda.projection.removal import remove_consumer
from mafalda.projection.state import ConsumerState, State


def subscribed(state: State, address: Address, result: results.SubscribeResult) -> None:
    """Add a subscription to its peer, or replace the one with its id."""
    if peer := current_peer(state, address.room, address.peer, result.generation):
        peer.subscriptions[result.subscription] = result.wish()


def consumers_opened(state: State, address: Address, event: events.ConsumersOpened) -> None:
    """Add the consumers of a subscription whose producers can be consumed on their peer's worker."""
    peer = placed_peer(state, address.room, address.peer, event.generation)
    if peer is None or event.transport not in peer.transports:
        return
    room = state.rooms[address.room or ""]
    for it in event.consumers:
        producer = room.producers.get(it.producer)
        if producer is None or producer.data != (it.kind == "data") or it.consumer in peer.consumers:
            continue
        if not room.can_consume(it.producer, peer.place):
            continue
        peer.consumers[it.consumer] = ConsumerState(
            it.consumer, it.producer, event.transport, producer.data, it.paused, event.subscription
        )
        room.consumers_of.setdefault(it.producer, set()).add((peer.peer, it.consumer))


def consumers_closed(state: State, address: Address, event: events.ConsumersClosed) -> None:
    """Remove consumers of a subscription."""
    if peer := current_peer(state, address.room, address.peer, event.generation):
        for consumer in event.consumers:
            remove_consumer(state.rooms[address.room or ""], peer, consumer)


def unsubscribed(state: State, address: Address, result: results.Done) -> None:
    """Remove a subscription with its consumers."""
    peer = current_peer(state, address.room, address.peer, result.generation)
    if peer is None or result.target is None or peer.subscriptions.pop(result.target, None) is None:
        return
    room = state.rooms[address.room or ""]
    for consumer in [it.consumer for it in peer.consumers.values() if it.subscription == result.target]:
        remove_consumer(room, peer, consumer)
