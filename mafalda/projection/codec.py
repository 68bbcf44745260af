"""Rooms and servers as JSON objects and back, for snapshots. Pure.

What ``State`` keeps twice (the indexes of workers, producers and peers) is written once and computed again by reading.
Reading is not validation: a snapshot is checked as a whole, by its checksums and its format.
"""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.subscriptions import Subscription
from mafalda.projection.removal import remove_objects, remove_relays
from mafalda.projection.state import (
    UNPLACED,
    ConsumerState,
    PeerState,
    ProducerState,
    RelayState,
    RoomState,
    ServerState,
    State,
    WorkerState,
)

Json = dict[str, Any]

#: Changes with every change of what is written here that older readers would misunderstand.
FORMAT = 1


def server_to_json(server: ServerState) -> Json:
    """A server with its living workers."""
    return {
        "server": server.server,
        "incarnation": server.incarnation,
        "status": server.status,
        "announcedAddress": server.announced_address,
        "region": server.region,
        "forceDrain": server.force_drain,
        "endedSeq": server.ended_seq,
        "workers": [[worker.place.worker, worker.pid, worker.slot] for worker in server.workers.values()],
    }


def add_server(state: State, found: Json) -> ServerState:
    """Add a server that ``server_to_json`` wrote; rooms are added after it."""
    name = found["server"]
    server = ServerState(
        name,
        found["incarnation"],
        found["status"],
        found["announcedAddress"],
        found["region"],
        found["forceDrain"],
        found["endedSeq"],
    )
    for worker, pid, slot in found["workers"]:
        server.workers[worker] = WorkerState(Place(server=name, worker=worker), pid, slot)
    state.servers[name] = server
    return server


def room_to_json(room: RoomState) -> Json:
    """A room with its peers, producers and relays."""
    return {
        "room": room.room,
        "peers": [_peer_to_json(peer) for peer in room.peers.values()],
        "producers": [_producer_to_json(producer) for producer in room.producers.values()],
        "relays": [
            [relay.producer, relay.data, *_place(relay.source), *_place(relay.target), relay.status]
            for relay in room.relays.values()
        ],
    }


def add_room(state: State, found: Json) -> RoomState:
    """Add a room that ``room_to_json`` wrote, in place of what the state has of it.

    A peer whose worker does not live by this state is unplaced, and has no objects; a relay between such workers, and
    what depends on it, is left out. So a room can be read into a state that is of a later moment.
    """
    state.forget_room(found["room"])
    room = RoomState(found["room"])
    for fields in found["peers"]:
        peer = _peer_from_json(fields)
        state.add_peer(room, peer)
        for consumer in peer.consumers.values():
            room.consumers_of.setdefault(consumer.producer, set()).add((peer.peer, consumer.consumer))
        if peer.status != UNPLACED and (worker := state.worker(peer.place)):
            worker.add_peer(room.room, peer)
    for fields in found["producers"]:
        producer = _producer_from_json(fields)
        room.producers[producer.producer] = producer
        if owner := room.peers.get(producer.peer):
            owner.producers.add(producer.producer)
    for name, data, source_server, source_worker, target_server, target_worker, status in found["relays"]:
        source = Place(server=source_server, worker=source_worker)
        target = Place(server=target_server, worker=target_worker)
        state.add_relay(room, RelayState(name, data, source, target, status))
    state.rooms[room.room] = room
    _remove_dead(state, room)
    return room


def _remove_dead(state: State, room: RoomState) -> None:
    for peer in room.peers.values():
        if peer.status != UNPLACED and state.worker(peer.place) is None:
            remove_objects(state, room, peer)
            peer.status = UNPLACED
    living = (relay for relay in room.relays.values() if not _lives(state, relay))
    remove_relays(state, room, list(living))


def _lives(state: State, relay: RelayState) -> bool:
    return state.worker(relay.source) is not None and state.worker(relay.target) is not None


def _place(place: Place) -> tuple[str, str]:
    return place.server, place.worker


def _peer_to_json(peer: PeerState) -> Json:
    return {
        "peer": peer.peer,
        "join": peer.join,
        "place": _place(peer.place),
        "generation": peer.generation,
        "status": peer.status,
        "appData": peer.app_data,
        "region": peer.region,
        "oneTransport": peer.one_transport,
        "tenant": peer.tenant,
        "audience": peer.audience,
        "leaseS": peer.lease_s,
        "promoted": peer.promoted,
        "transports": sorted(peer.transports),
        "consumers": [[it.consumer, it.producer, it.transport, it.data, it.paused] for it in peer.consumers.values()],
        "subscribed": {it.consumer: it.subscription for it in peer.consumers.values() if it.subscription},
        "subscriptions": [it.to_json_dict() for it in peer.subscriptions.values()],
    }


def _peer_from_json(found: Json) -> PeerState:
    server, worker = found["place"]
    subscribed = found.get("subscribed", {})  # not in snapshots of older versions
    return PeerState(
        found["peer"],
        found["join"],
        Place(server=server, worker=worker),
        found["generation"],
        found["status"],
        found["appData"],
        found["region"],
        found["oneTransport"],
        found.get("tenant"),
        found.get("audience", False),
        found.get("leaseS"),
        found.get("promoted"),
        set(found["transports"]),
        consumers={
            consumer: ConsumerState(consumer, producer, transport, data, paused, subscribed.get(consumer))
            for consumer, producer, transport, data, paused in found["consumers"]
        },
        subscriptions={it["subscription"]: Subscription.model_validate(it) for it in found.get("subscriptions", [])},
    )


def _producer_to_json(producer: ProducerState) -> Json:
    return {
        "producer": producer.producer,
        "peer": producer.peer,
        "transport": producer.transport,
        "place": _place(producer.place),
        "generation": producer.generation,
        "data": producer.data,
        "mediaKind": producer.media_kind,
        "type": producer.type,
        "paused": producer.paused,
        "label": producer.label,
        "protocol": producer.protocol,
        "appData": producer.app_data,
    }


def _producer_from_json(found: Json) -> ProducerState:
    server, worker = found["place"]
    return ProducerState(
        found["producer"],
        found["peer"],
        found["transport"],
        Place(server=server, worker=worker),
        found["generation"],
        found["data"],
        found["mediaKind"],
        found["type"],
        found["paused"],
        found["label"],
        found["protocol"],
        found["appData"],
    )
