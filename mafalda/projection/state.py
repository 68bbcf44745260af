"""The state that the log describes: servers, rooms, peers and what they own.

Plain data. How each message changes it is in ``fold``; what an allocator adds (loads, pending
reservations) is in ``mafalda.allocator.core.state.view``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from mafalda.contract.messages.payload import AppData, Place

PeerStatus = Literal["placing", "joined", "homeless"]
ServerStatus = Literal["up", "draining", "stopped", "lost"]
RelayStatus = Literal["opening", "open"]


@dataclass(slots=True)
class WorkerState:
    """One living worker process."""

    place: Place
    pid: int
    slot: int
    peers: set[tuple[str, str]] = field(default_factory=set)  # (room, peer)


@dataclass(slots=True)
class ServerState:
    """One server, in its latest incarnation."""

    server: str
    incarnation: str
    status: ServerStatus
    announced_address: str
    region: str | None
    workers: dict[str, WorkerState] = field(default_factory=dict)


@dataclass(slots=True)
class ConsumerState:
    """A consumer or data consumer, owned by a peer."""

    consumer: str
    producer: str
    transport: str
    data: bool
    paused: bool


@dataclass(slots=True)
class ProducerState:
    """A producer (``media_kind`` set) or a data producer, at its origin."""

    producer: str
    peer: str
    transport: str
    place: Place
    generation: int
    data: bool
    media_kind: str | None = None
    type: str | None = None
    paused: bool = False
    label: str = ""
    protocol: str = ""
    app_data: AppData = field(default_factory=dict)


@dataclass(slots=True)
class RelayState:
    """A producer carried to another worker."""

    producer: str
    data: bool
    source: Place
    target: Place
    status: RelayStatus


@dataclass(slots=True)
class PeerState:
    """A peer and its place. ``homeless``: its worker is gone and it waits for a new place."""

    peer: str
    join: str
    place: Place
    generation: int
    status: PeerStatus
    app_data: AppData
    region: str | None
    transports: set[str] = field(default_factory=set)
    consumers: dict[str, ConsumerState] = field(default_factory=dict)


@dataclass(slots=True)
class RoomState:
    """A room with at least one peer. Relays are keyed by producer and target: there is one for each pair.

    A room is gone when its last peer is. Who appends commands must remember longer than that what the room's last
    one was, and which generations its peers had.
    """

    room: str
    peers: dict[str, PeerState] = field(default_factory=dict)
    producers: dict[str, ProducerState] = field(default_factory=dict)
    relays: dict[tuple[str, Place], RelayState] = field(default_factory=dict)
    consumers_of: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # producer: (peer, consumer)

    def places_of(self, producer: str) -> Iterator[Place]:
        """Every worker on which a producer can be consumed now: its origin, then its open relays' targets."""
        if origin := self.producers.get(producer):
            yield origin.place
        for (relayed, target), relay in self.relays.items():
            if relayed == producer and relay.status == "open":
                yield target

    def can_consume(self, producer: str, place: Place) -> bool:
        """Whether a producer can be consumed on a worker now."""
        origin = self.producers.get(producer)
        if origin is None or origin.place == place:
            return origin is not None
        relay = self.relays.get((producer, place))
        return relay is not None and relay.status == "open"


@dataclass(slots=True)
class State:
    """Everything, as of log sequence ``seq``."""

    seq: int = 0
    servers: dict[str, ServerState] = field(default_factory=dict)
    rooms: dict[str, RoomState] = field(default_factory=dict)

    def worker(self, place: Place) -> WorkerState | None:
        """The worker at a place, if it lives."""
        server = self.servers.get(place.server)
        return server.workers.get(place.worker) if server else None

    def to_json_dict(self) -> dict[str, Any]:
        """The same JSON for the same state, whatever order it came in."""
        return {
            "seq": self.seq,
            "servers": {key: _server_json(self.servers[key]) for key in sorted(self.servers)},
            "rooms": {key: _room_json(self.rooms[key]) for key in sorted(self.rooms)},
        }


def _server_json(server: ServerState) -> dict[str, Any]:
    return {
        "incarnation": server.incarnation,
        "status": server.status,
        "announcedAddress": server.announced_address,
        "region": server.region,
        "workers": {
            key: {
                "pid": worker.pid,
                "slot": worker.slot,
                "peers": sorted("/".join(peer) for peer in worker.peers),
            }
            for key, worker in sorted(server.workers.items())
        },
    }


def _room_json(room: RoomState) -> dict[str, Any]:
    return {
        "peers": {key: _peer_json(peer) for key, peer in sorted(room.peers.items())},
        "producers": {key: _producer_json(producer) for key, producer in sorted(room.producers.items())},
        "relays": sorted(
            (
                {
                    "producer": relay.producer,
                    "data": relay.data,
                    "source": relay.source.to_json_dict(),
                    "target": relay.target.to_json_dict(),
                    "status": relay.status,
                }
                for relay in room.relays.values()
            ),
            key=lambda relay: (relay["producer"], str(relay["target"])),
        ),
    }


def _peer_json(peer: PeerState) -> dict[str, Any]:
    return {
        **peer.place.to_json_dict(),
        "generation": peer.generation,
        "status": peer.status,
        "appData": peer.app_data,
        "transports": sorted(peer.transports),
        "consumers": {
            key: {
                "producer": consumer.producer,
                "transport": consumer.transport,
                "data": consumer.data,
                "paused": consumer.paused,
            }
            for key, consumer in sorted(peer.consumers.items())
        },
    }


def _producer_json(producer: ProducerState) -> dict[str, Any]:
    return {
        **producer.place.to_json_dict(),
        "peer": producer.peer,
        "transport": producer.transport,
        "generation": producer.generation,
        "kind": producer.media_kind or "data",
        "paused": producer.paused,
        "appData": producer.app_data,
    }
