"""The state that the log describes: servers, workers, rooms, peers and the objects that they own.

How each message changes it is in ``fold``. Indexes that several families of messages keep (a worker's peers and relays,
a producer's consumers and relays, a peer's producers) are here, beside the data that they index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mafalda.contract.messages.payload import AppData, Place
from mafalda.contract.messages.subscriptions import Subscription

#: The status of a peer whose worker has ended and that has no new place yet.
UNPLACED: Final = "unplaced"

PeerStatus = Literal["placing", "joined", "unplaced"]
ServerStatus = Literal["up", "draining", "stopped", "lost"]
RelayStatus = Literal["opening", "open"]


@dataclass(slots=True)
class WorkerState:
    """One living worker process, with the peers placed on it and the relays that begin or end on it."""

    place: Place
    pid: int
    slot: int
    peers: set[tuple[str, str]] = field(default_factory=set)  # (room, peer)
    audience: set[tuple[str, str]] = field(default_factory=set)  # those of ``peers`` that are audience
    relays: set[tuple[str, str, Place]] = field(default_factory=set)  # (room, producer, target)

    def add_peer(self, room: str, peer: PeerState) -> None:
        """Add a peer that is placed on this worker."""
        self.peers.add((room, peer.peer))
        if peer.audience:
            self.audience.add((room, peer.peer))

    def remove_peer(self, room: str, peer: str) -> None:
        """Remove a peer, if it is here."""
        self.peers.discard((room, peer))
        self.audience.discard((room, peer))


@dataclass(slots=True)
class ServerState:
    """One server, in its latest incarnation."""

    server: str
    incarnation: str
    status: ServerStatus
    announced_address: str
    region: str | None
    force_drain: bool = False  # whether the deadline of its drain has passed
    ended_seq: int = 0  # the log entry that says that it stopped or is lost
    workers: dict[str, WorkerState] = field(default_factory=dict)


@dataclass(slots=True)
class ConsumerState:
    """A consumer or data consumer, owned by a peer. ``subscription``: for which its agent made it, if for any."""

    consumer: str
    producer: str
    transport: str
    data: bool
    paused: bool
    subscription: str | None = None


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
    """A producer that is piped from one worker to another."""

    producer: str
    data: bool
    source: Place
    target: Place
    status: RelayStatus


@dataclass(slots=True)
class PeerState:
    """A peer, its place and its objects. ``UNPLACED``: its worker has ended, and it waits for a new place.

    ``one_transport``: as in its join; the peers of a drop-in are such. ``tenant``: the application that it is of.
    ``audience``: it only receives, and the room's other peers are not told of it.
    ``promoted``: whether it was of the audience and was announced to the room later; ``None``: an older version's
    snapshot does not say.
    ``lease_s``: as in its join, until it has a transport.
    ``subscriptions`` outlast a place.
    """

    peer: str
    join: str
    place: Place
    generation: int
    status: PeerStatus
    app_data: AppData
    region: str | None
    one_transport: bool = False
    tenant: str | None = None
    audience: bool = False
    lease_s: float | None = None
    promoted: bool | None = False
    transports: set[str] = field(default_factory=set)
    producers: set[str] = field(default_factory=set)
    consumers: dict[str, ConsumerState] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


@dataclass(slots=True)
class RoomState:
    """A room with at least one peer. There is at most one relay for each pair of producer and target.

    A room is removed with its last peer. An allocator has to remember the sequence of the room's last command and the
    generations of its peers for longer than that.
    """

    room: str
    peers: dict[str, PeerState] = field(default_factory=dict)
    producers: dict[str, ProducerState] = field(default_factory=dict)
    relays: dict[tuple[str, Place], RelayState] = field(default_factory=dict)
    consumers_of: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # producer: (peer, consumer)
    targets_of: dict[str, set[Place]] = field(default_factory=dict)  # producer: targets of its relays

    @property
    def tenant(self) -> str | None:
        """The application that the room is of: its first peer's."""
        return next((peer.tenant for peer in self.peers.values()), None)

    def relays_of(self, producer: str) -> list[RelayState]:
        """The relays of a producer, ordered by their target."""
        targets = sorted(self.targets_of.get(producer, ()), key=lambda place: (place.server, place.worker))
        return [self.relays[producer, target] for target in targets]

    def places_of(self, producer: str) -> Iterator[Place]:
        """Every worker on which a producer can be consumed now: its origin, then the targets of its open relays."""
        if origin := self.producers.get(producer):
            yield origin.place
        for relay in self.relays_of(producer):
            if relay.status == "open":
                yield relay.target

    def can_consume(self, producer: str, place: Place) -> bool:
        """Whether a producer can be consumed on a worker now."""
        origin = self.producers.get(producer)
        if origin is None or origin.place == place:
            return origin is not None
        relay = self.relays.get((producer, place))
        return relay is not None and relay.status == "open"


@dataclass(slots=True)
class State:
    """The state of the whole fleet as of log sequence ``seq``."""

    seq: int = 0
    servers: dict[str, ServerState] = field(default_factory=dict)
    rooms: dict[str, RoomState] = field(default_factory=dict)
    peers_of: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # tenant: (room, peer)

    def add_peer(self, room: RoomState, peer: PeerState) -> None:
        """Add a peer to its room and to the index, or replace what is known of it."""
        if former := room.peers.get(peer.peer):
            self._forget_tenant(room, former)
        room.peers[peer.peer] = peer
        if peer.tenant is not None:
            self.peers_of.setdefault(peer.tenant, set()).add((room.room, peer.peer))

    def remove_peer(self, room: RoomState, peer: PeerState) -> None:
        """Remove a peer from its room and from the index."""
        del room.peers[peer.peer]
        self._forget_tenant(room, peer)

    def _forget_tenant(self, room: RoomState, peer: PeerState) -> None:
        if peer.tenant is not None:
            found = self.peers_of[peer.tenant]
            found.discard((room.room, peer.peer))
            if not found:
                del self.peers_of[peer.tenant]

    def worker(self, place: Place) -> WorkerState | None:
        """The living worker at a place."""
        server = self.servers.get(place.server)
        return server.workers.get(place.worker) if server else None

    def add_relay(self, room: RoomState, relay: RelayState) -> None:
        """Add a relay to its room and to the indexes. Both of its workers must live."""
        room.relays[relay.producer, relay.target] = relay
        room.targets_of.setdefault(relay.producer, set()).add(relay.target)
        for place in (relay.source, relay.target):
            if worker := self.worker(place):
                worker.relays.add((room.room, relay.producer, relay.target))

    def remove_relay(self, room: RoomState, relay: RelayState) -> None:
        """Remove a relay from its room and from the indexes."""
        del room.relays[relay.producer, relay.target]
        targets = room.targets_of[relay.producer]
        targets.discard(relay.target)
        if not targets:
            del room.targets_of[relay.producer]
        for place in (relay.source, relay.target):
            if worker := self.worker(place):
                worker.relays.discard((room.room, relay.producer, relay.target))

    def forget_room(self, room_id: str) -> None:
        """Remove a room that the reader does not follow any more, with its entries in the workers' indexes."""
        room = self.rooms.pop(room_id, None)
        if room is None:
            return
        for peer in list(room.peers.values()):
            if worker := self.worker(peer.place):
                worker.remove_peer(room_id, peer.peer)
            self.remove_peer(room, peer)
        for relay in list(room.relays.values()):
            self.remove_relay(room, relay)

    def to_json_dict(self) -> dict[str, Any]:
        """The state as JSON: the same for the same state, in whatever order its messages came."""
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
    found = _peer_objects_json(peer)
    if peer.audience:  # states of older logs have no such key
        found["audience"] = True
    if peer.promoted:
        found["promoted"] = True
    if peer.subscriptions:  # nor this one
        found["subscriptions"] = {key: it.to_json_dict() for key, it in sorted(peer.subscriptions.items())}
    return found


def _peer_objects_json(peer: PeerState) -> dict[str, Any]:
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
                **({"subscription": consumer.subscription} if consumer.subscription else {}),
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
