"""Remove objects together with everything that depends on them, as mediasoup's ``close()`` does.

A transport ends with its producers and consumers, a producer with its relays and consumers, and a relay with the
consumers on its target and with the relays whose source is its target.
"""

from __future__ import annotations

from collections.abc import Iterable

from mafalda.contract.messages.payload import Place
from mafalda.projection.state import PeerState, ProducerState, RelayState, RoomState, State


def remove_objects(state: State, room: RoomState, peer: PeerState) -> None:
    """Remove all transports, producers and consumers of a peer."""
    for producer in sorted(peer.producers):
        remove_producer(state, room, room.producers[producer])
    for consumer in list(peer.consumers):
        remove_consumer(room, peer, consumer)
    peer.transports.clear()


def remove_transport(state: State, room: RoomState, peer: PeerState, transport: str) -> None:
    """Remove a transport with its producers and consumers."""
    peer.transports.discard(transport)
    for producer in [room.producers[name] for name in sorted(peer.producers)]:
        if producer.transport == transport:
            remove_producer(state, room, producer)
    for consumer in [c.consumer for c in peer.consumers.values() if c.transport == transport]:
        remove_consumer(room, peer, consumer)


def remove_producer(state: State, room: RoomState, producer: ProducerState) -> None:
    """Remove a producer with its relays and consumers."""
    del room.producers[producer.producer]
    if owner := room.peers.get(producer.peer):
        owner.producers.discard(producer.producer)
    for relay in room.relays_of(producer.producer):
        state.remove_relay(room, relay)
    for peer_id, consumer in room.consumers_of.pop(producer.producer, set()):
        if peer := room.peers.get(peer_id):
            peer.consumers.pop(consumer, None)


def remove_consumer(room: RoomState, peer: PeerState, consumer: str) -> None:
    """Remove a consumer, if it is there."""
    if removed := peer.consumers.pop(consumer, None):
        consumers = room.consumers_of.get(removed.producer, set())
        consumers.discard((peer.peer, consumer))
        if not consumers:
            room.consumers_of.pop(removed.producer, None)


def remove_relays(state: State, room: RoomState, ended: Iterable[RelayState]) -> None:
    """Remove relays with the consumers on their targets and with the relays whose source is their target."""
    pending = list(ended)
    onward: dict[str, dict[Place, list[RelayState]]] = {}  # of each producer: its relays by source
    while pending:
        relay = pending.pop()
        if relay.producer not in onward:
            onward[relay.producer] = _by_source(room.relays_of(relay.producer))
        if (relay.producer, relay.target) not in room.relays:
            continue  # removed already, as an onward relay of another one
        state.remove_relay(room, relay)
        for peer_id, consumer in list(room.consumers_of.get(relay.producer, ())):
            peer = room.peers.get(peer_id)
            if peer and peer.place == relay.target:
                remove_consumer(room, peer, consumer)
        pending += onward[relay.producer].get(relay.target, ())


def _by_source(relays: Iterable[RelayState]) -> dict[Place, list[RelayState]]:
    found: dict[Place, list[RelayState]] = {}
    for relay in relays:
        found.setdefault(relay.source, []).append(relay)
    return found
