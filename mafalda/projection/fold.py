"""How each message changes the state. Total: no well-formed message, in whatever order, can make it raise.

The same log gives the same state, byte for byte. A message that contradicts what came before it (a stale
generation, an id that is taken, a consumer where its producer is not) or its own subject changes nothing, so
after every entry these hold: a consumer's producer is there and can be consumed on the consumer's worker; both
ends of a relay live; a worker's peers and a producer's consumers are listed where they are looked up. What does
not belong here: reading the log (``mafalda.bus.log.read``), deciding anything (``mafalda.allocator``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mafalda.contract.channels import fits
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import Address
from mafalda.projection.state import (
    ConsumerState,
    PeerState,
    ProducerState,
    RelayState,
    RoomState,
    ServerState,
    State,
    WorkerState,
)


def fold(state: State, seq: int, address: Address, payload: Payload | None) -> None:
    """Apply one stored message, in log order.

    Args:
        state: Changed in place.
        seq: The message's sequence in the log; what the state has seen already is passed over.
        address: Its subject, taken apart.
        payload: Its data; ``None`` if it is unreadable, which moves the sequence and nothing else.
    """
    if seq <= state.seq:
        return
    state.seq = seq
    apply(state, seq, address, payload)


def apply(state: State, seq: int, address: Address, payload: Payload | None) -> None:
    """As ``fold``, for a reader that takes rooms and servers in at different paces and minds their order itself."""
    if payload is None:
        return
    rule = _RULES.get(type(payload))
    if rule and fits(address, payload):
        rule(state, address, payload)


# --- servers and workers -------------------------------------------------------------------------


def _server_started(state: State, _: Address, event: events.ServerStarted) -> None:
    known = state.servers.get(event.server)
    if known and known.incarnation == event.incarnation:
        return  # said twice: an incarnation that ended does not come back
    _end_server(state, event.server)
    state.servers[event.server] = server = ServerState(
        event.server, event.incarnation, "up", event.announced_address, event.region
    )
    for info in event.workers:
        _add_worker(server, info)


def _server_ended(state: State, _: Address, event: events.ServerStopped | events.ServerLost) -> None:
    if _is_current(state, event.server, event.incarnation):
        _end_server(state, event.server)
        state.servers[event.server].status = "stopped" if isinstance(event, events.ServerStopped) else "lost"


def _server_draining(state: State, _: Address, event: events.ServerDraining) -> None:
    if _is_current(state, event.server, event.incarnation):
        state.servers[event.server].status = "draining" if event.draining else "up"


def _worker_started(state: State, _: Address, event: events.WorkerStarted) -> None:
    if _is_current(state, event.server, event.incarnation):
        _add_worker(state.servers[event.server], event.worker)


def _worker_died(state: State, _: Address, event: events.WorkerDied) -> None:
    if _is_current(state, event.server, event.incarnation):
        _end_worker(state, Place(server=event.server, worker=event.worker))


def _is_current(state: State, server: str, incarnation: str) -> bool:
    found = state.servers.get(server)
    return found is not None and found.incarnation == incarnation and found.status in ("up", "draining")


def _add_worker(server: ServerState, info: events.WorkerInfo) -> None:
    place = Place(server=server.server, worker=info.worker)
    server.workers.setdefault(info.worker, WorkerState(place, info.pid, info.slot))


def _end_server(state: State, server: str) -> None:
    if known := state.servers.get(server):
        for worker in list(known.workers.values()):
            _end_worker(state, worker.place)


def _end_worker(state: State, place: Place) -> None:
    worker = state.worker(place)
    if worker is None:
        return
    for room_id, peer_id in sorted(worker.peers):
        room = state.rooms[room_id]
        peer = room.peers[peer_id]
        _drop_objects(room, peer)
        peer.status = "homeless"
    for room in state.rooms.values():
        _drop_relays(room, [relay for relay in room.relays.values() if place in (relay.source, relay.target)])
    del state.servers[place.server].workers[place.worker]


# --- peers ---------------------------------------------------------------------------------------


def _place_peer(state: State, _: Address, command: commands.PlacePeer) -> None:
    room = state.rooms.setdefault(command.room, RoomState(command.room))
    place = Place(server=command.server, worker=command.worker)
    old = room.peers.get(command.peer)
    if old and old.generation >= command.generation:
        return
    if old is None and command.cause != "join":  # it left while it was given another place
        if not room.peers:
            del state.rooms[room.room]
        return
    if old:
        _drop_objects(room, old)
        _leave_worker(state, room, old)
    alive = state.worker(place)
    if alive:
        alive.peers.add((room.room, command.peer))
    room.peers[command.peer] = PeerState(
        command.peer,
        command.join,
        place,
        command.generation,
        "placing" if alive else "homeless",
        command.app_data,
        command.region,
    )


def _peer_settled(state: State, address: Address, event: events.PeerJoined | events.PeerMoved) -> None:
    if peer := _housed(state, address.room, event.peer, event.generation):
        peer.status = "joined"


def _peer_left(state: State, address: Address, event: events.PeerLeft) -> None:
    peer = _current(state, address.room, event.peer, event.generation)
    if peer is None or address.room is None:
        return
    room = state.rooms[address.room]
    _drop_objects(room, peer)
    _leave_worker(state, room, peer)
    del room.peers[peer.peer]
    if not room.peers:
        del state.rooms[room.room]


def _leave_worker(state: State, room: RoomState, peer: PeerState) -> None:
    if worker := state.worker(peer.place):
        worker.peers.discard((room.room, peer.peer))


def _drop_objects(room: RoomState, peer: PeerState) -> None:
    for producer in [p for p in room.producers.values() if p.peer == peer.peer]:
        _drop_producer(room, producer)
    for consumer in list(peer.consumers):
        _drop_consumer(room, peer, consumer)
    peer.transports.clear()


# --- transports, producers, consumers -------------------------------------------------------------


def _transport_opened(state: State, address: Address, result: results.TransportResult) -> None:
    peer = _housed(state, address.room, address.peer, result.generation)
    if peer and address.action == "create-transport":
        peer.transports.add(result.transport)


def _channel_answered(state: State, address: Address, answer: results.ChannelAnswer) -> None:
    peer = _housed(state, address.room, address.peer, answer.generation)
    if peer and answer.accepted and answer.target is not None and address.action == "create-transport":
        peer.transports.add(answer.target)


def _producer_opened(state: State, address: Address, event: events.ProducerOpened | events.DataProducerOpened) -> None:
    peer = _housed(state, address.room, event.peer, event.generation)
    if peer is None or peer.place != Place(server=event.server, worker=event.worker):
        return
    if isinstance(event, events.DataProducerOpened):
        opened = ProducerState(event.data_producer, event.peer, event.transport, peer.place, event.generation, True)
        opened.label, opened.protocol = event.label, event.protocol
    else:
        opened = ProducerState(event.producer, event.peer, event.transport, peer.place, event.generation, False)
        opened.media_kind, opened.type, opened.paused = event.media_kind, event.type, event.paused
    opened.app_data = event.app_data
    state.rooms[address.room or ""].producers.setdefault(opened.producer, opened)


def _producer_paused(state: State, address: Address, event: events.ProducerPaused | events.ProducerResumed) -> None:
    room = state.rooms.get(address.room or "")
    producer = room.producers.get(event.producer) if room else None
    if producer and producer.peer == event.peer:
        producer.paused = isinstance(event, events.ProducerPaused)


def _producer_closed(state: State, address: Address, event: events.ProducerClosed | events.DataProducerClosed) -> None:
    room = state.rooms.get(address.room or "")
    key = event.data_producer if isinstance(event, events.DataProducerClosed) else event.producer
    producer = room.producers.get(key) if room else None
    if room and producer and producer.peer == event.peer and producer.generation == event.generation:
        _drop_producer(room, producer)


def _consumer_opened(state: State, address: Address, result: results.ConsumeResult | results.ConsumeDataResult) -> None:
    peer = _housed(state, address.room, address.peer, result.generation)
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


def _consumer_closed(state: State, address: Address, event: events.ConsumerClosed | events.DataConsumerClosed) -> None:
    if peer := _current(state, address.room, address.peer, event.generation):
        key = event.data_consumer if isinstance(event, events.DataConsumerClosed) else event.consumer
        _drop_consumer(state.rooms[address.room or ""], peer, key)


def _transport_closed(state: State, address: Address, event: events.TransportClosed) -> None:
    if peer := _current(state, address.room, address.peer, event.generation):
        _drop_transport(state.rooms[address.room or ""], peer, event.transport)


def _done(state: State, address: Address, result: results.Done) -> None:
    peer = _current(state, address.room, address.peer, result.generation)
    if peer is None or result.target is None:
        return
    room = state.rooms[address.room or ""]
    consumer = peer.consumers.get(result.target)
    match result.intent:
        case "close-transport":
            _drop_transport(room, peer, result.target)
        case "close-consumer" | "close-data-consumer":
            _drop_consumer(room, peer, result.target)
        case "pause-consumer" | "resume-consumer" if consumer:
            consumer.paused = result.intent == "pause-consumer"


def _drop_transport(room: RoomState, peer: PeerState, transport: str) -> None:
    peer.transports.discard(transport)
    for producer in [p for p in room.producers.values() if p.peer == peer.peer and p.transport == transport]:
        _drop_producer(room, producer)
    for consumer in [c.consumer for c in peer.consumers.values() if c.transport == transport]:
        _drop_consumer(room, peer, consumer)


def _drop_producer(room: RoomState, producer: ProducerState) -> None:
    del room.producers[producer.producer]
    for relay in [relay for relay in room.relays.values() if relay.producer == producer.producer]:
        del room.relays[(relay.producer, relay.target)]
    for peer_id, consumer in room.consumers_of.pop(producer.producer, set()):
        if peer := room.peers.get(peer_id):
            peer.consumers.pop(consumer, None)


def _drop_consumer(room: RoomState, peer: PeerState, consumer: str) -> None:
    if dropped := peer.consumers.pop(consumer, None):
        of = room.consumers_of.get(dropped.producer, set())
        of.discard((peer.peer, consumer))
        if not of:
            room.consumers_of.pop(dropped.producer, None)


# --- relays --------------------------------------------------------------------------------------


def _open_relay(state: State, _: Address, command: commands.OpenRelay) -> None:
    room = state.rooms.get(command.room)
    producer = room.producers.get(command.producer) if room else None
    if room is None or producer is None or (producer.generation, producer.data) != (command.generation, command.data):
        return
    if command.target in (command.source, producer.place):
        return
    if state.worker(command.source) and state.worker(command.target):
        room.relays.setdefault(
            (command.producer, command.target),
            RelayState(command.producer, command.data, command.source, command.target, "opening"),
        )


def _relay_opened(state: State, address: Address, event: events.RelayOpened) -> None:
    if relay := _relay(state, address, event):
        relay.status = "open"


def _relay_ended(state: State, address: Address, event: events.RelayClosed | events.RelayFailed) -> None:
    if relay := _relay(state, address, event):
        _drop_relays(state.rooms[address.room or ""], [relay])


def _drop_relays(room: RoomState, doomed: list[RelayState]) -> None:
    """Drop relays, and what hangs on them: consumers on their targets, relays that go on from there."""
    if not doomed:
        return
    onwards: dict[tuple[str, Place], list[RelayState]] = {}
    for relay in room.relays.values():
        onwards.setdefault((relay.producer, relay.source), []).append(relay)
    while doomed:
        relay = doomed.pop()
        if room.relays.pop((relay.producer, relay.target), None) is None:
            continue  # dropped from another side
        for peer_id, consumer in list(room.consumers_of.get(relay.producer, ())):
            peer = room.peers.get(peer_id)
            if peer and peer.place == relay.target:
                _drop_consumer(room, peer, consumer)
        doomed += onwards.get((relay.producer, relay.target), ())


def _relay(
    state: State, address: Address, event: events.RelayOpened | events.RelayClosed | events.RelayFailed
) -> RelayState | None:
    room = state.rooms.get(address.room or "")
    relay = room.relays.get((event.producer, event.target)) if room else None
    return relay if relay and relay.source == event.source else None


# --- looking up ----------------------------------------------------------------------------------


def _current(state: State, room: str | None, peer: str | None, generation: int) -> PeerState | None:
    """The peer, if what is said of it is said of its present place."""
    found = state.rooms[room].peers.get(peer) if room in state.rooms and peer else None
    return found if found and found.generation == generation else None


def _housed(state: State, room: str | None, peer: str | None, generation: int) -> PeerState | None:
    """The peer, if what is said of it is said of its present place and that place still lives."""
    found = _current(state, room, peer, generation)
    return found if found and found.status != "homeless" else None


_RULES: dict[type[Payload], Callable[[State, Address, Any], None]] = {
    events.ServerStarted: _server_started,
    events.ServerStopped: _server_ended,
    events.ServerLost: _server_ended,
    events.ServerDraining: _server_draining,
    events.WorkerStarted: _worker_started,
    events.WorkerDied: _worker_died,
    commands.PlacePeer: _place_peer,
    events.PeerJoined: _peer_settled,
    events.PeerMoved: _peer_settled,
    events.PeerLeft: _peer_left,
    results.TransportResult: _transport_opened,
    results.ChannelAnswer: _channel_answered,
    events.TransportClosed: _transport_closed,
    events.ProducerOpened: _producer_opened,
    events.ProducerPaused: _producer_paused,
    events.ProducerResumed: _producer_paused,
    events.ProducerClosed: _producer_closed,
    events.DataProducerOpened: _producer_opened,
    events.DataProducerClosed: _producer_closed,
    results.ConsumeResult: _consumer_opened,
    results.ConsumeDataResult: _consumer_opened,
    events.ConsumerClosed: _consumer_closed,
    events.DataConsumerClosed: _consumer_closed,
    results.Done: _done,
    commands.OpenRelay: _open_relay,
    events.RelayOpened: _relay_opened,
    events.RelayClosed: _relay_ended,
    events.RelayFailed: _relay_ended,
}
