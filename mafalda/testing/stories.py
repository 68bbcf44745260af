"""Stories: logs of one room in a few words, folded while they are written; and the invariants of the fold.

For tests of everything that reads the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import parse
from mafalda.errors import RelayUnavailable
from mafalda.projection.fold import fold
from mafalda.projection.state import UNPLACED, RoomState, State
from mafalda.testing.builders import ROOM, example, message, subject_of

_WHY = commands.Explanation(policy="test", summary="The story says so.")


def place(worker: str) -> Place:
    """The place of a worker whose id is ``{server}-{rest}``; a server's id has no hyphen here."""
    return Place(server=worker.partition("-")[0], worker=worker)


class Story:
    """A log of one room, written entry by entry. ``entries`` is the log, ``state`` its fold.

    Workers are named ``{server}-{rest}``; a peer's transport is ``{peer}-t`` unless it is named.
    """

    def __init__(self, room: str = ROOM) -> None:
        self.room_id = room
        self.state = State()
        self.entries: list[tuple[int, str, Payload]] = []

    @property
    def room(self) -> RoomState:
        """The room as it is now; an empty one if it has no peer."""
        return self.state.rooms.get(self.room_id, RoomState(self.room_id))

    def append(self, payload: Payload, *, peer: str = "", server: str = "", subject: str | None = None) -> Story:
        """Append one message and fold it; on the payload's own subject unless another is given."""
        where = subject or subject_of(payload, room=self.room_id, peer=peer or "nobody", server=server or "nowhere")
        address = parse(where)
        assert address is not None, f"not a subject of Mafalda: {where}"
        self.entries.append((len(self.entries) + 1, where, payload))
        fold(self.state, len(self.entries), address, payload)
        return self

    def lines(self) -> Iterator[bytes]:
        """The log as ``mafalda log --json`` exports it."""
        for seq, subject, payload in self.entries:
            cloud_event = encode(message(payload, id=derived_id(seq, subject), subject=subject))
            yield b'{"seq":%d,"subject":"%s","message":%s}' % (seq, subject.encode(), cloud_event)

    # --- servers ---------------------------------------------------------------------------------

    def server_starts(self, server: str, *workers: str, incarnation: str = "i1") -> Story:
        infos = [events.WorkerInfo(worker=worker, pid=100 + slot, slot=slot) for slot, worker in enumerate(workers)]
        return self.append(
            events.ServerStarted(server=server, incarnation=incarnation, workers=infos, announced_address="192.0.2.1")
        )

    def server_stops(self, server: str, incarnation: str = "i1") -> Story:
        return self.append(events.ServerStopped(server=server, incarnation=incarnation))

    def server_is_lost(self, server: str, incarnation: str = "i1") -> Story:
        return self.append(events.ServerLost(server=server, incarnation=incarnation))

    def worker_starts(self, worker: str, incarnation: str = "i1") -> Story:
        info = events.WorkerInfo(worker=worker, pid=200, slot=0)
        return self.append(events.WorkerStarted(server=place(worker).server, incarnation=incarnation, worker=info))

    def worker_dies(self, worker: str, incarnation: str = "i1") -> Story:
        return self.append(
            events.WorkerDied(server=place(worker).server, incarnation=incarnation, worker=worker, signal="SIGKILL")
        )

    # --- peers -----------------------------------------------------------------------------------

    def places(
        self, peer: str, worker: str, generation: int = 1, cause: PlacementCause = "join", *, handover: bool = False
    ) -> Story:
        """An allocator's command; the peer is ``placing`` until it joins or moves."""
        at = place(worker)
        return self.append(
            commands.PlacePeer(
                room=self.room_id,
                peer=peer,
                server=at.server,
                worker=worker,
                generation=generation,
                cause=cause,
                join=f"join-{peer}",
                handover=handover,
                explanation=_WHY,
            )
        )

    def joins(self, peer: str, worker: str, generation: int = 1) -> Story:
        """Place a peer, and its agent appends that it joined."""
        self.places(peer, worker, generation)
        at = place(worker)
        return self.append(events.PeerJoined(peer=peer, server=at.server, worker=worker, generation=generation))

    def moves(
        self,
        peer: str,
        worker: str,
        generation: int,
        cause: PlacementCause = "worker-died",
        *,
        handover: bool = False,
    ) -> Story:
        """Place a peer again, and its agent appends that it moved."""
        self.places(peer, worker, generation, cause, handover=handover)
        at = {"server": place(worker).server, "worker": worker}
        return self.append(events.PeerMoved(peer=peer, generation=generation, cause=cause, handover=handover, **at))

    def leaves(self, peer: str, generation: int = 1) -> Story:
        return self.append(events.PeerLeft(peer=peer, generation=generation))

    # --- objects of peers -------------------------------------------------------------------------

    def opens_transport(self, peer: str, transport: str = "", generation: int = 1) -> Story:
        opened = {"transport": transport or f"{peer}-t", "generation": generation}
        return self.append(example(results.TransportResult).model_copy(update=opened), peer=peer)

    def loses_transport(self, peer: str, transport: str = "", generation: int = 1) -> Story:
        return self.append(
            events.TransportClosed(transport=transport or f"{peer}-t", generation=generation, reason="ice-failed"),
            peer=peer,
        )

    def produces(self, peer: str, producer: str, *, worker: str, generation: int = 1, transport: str = "") -> Story:
        opened = self._opened(peer, worker, generation, transport) | {"producer": producer}
        return self.append(example(events.ProducerOpened).model_copy(update=opened))

    def produces_data(
        self, peer: str, producer: str, *, worker: str, generation: int = 1, transport: str = ""
    ) -> Story:
        opened = self._opened(peer, worker, generation, transport) | {"data_producer": producer}
        return self.append(example(events.DataProducerOpened).model_copy(update=opened))

    def _opened(self, peer: str, worker: str, generation: int, transport: str) -> dict[str, Any]:
        at = {"server": place(worker).server, "worker": worker, "generation": generation}
        return {"peer": peer, "transport": transport or f"{peer}-t", **at}

    def closes_producer(self, peer: str, producer: str, generation: int = 1) -> Story:
        return self.append(events.ProducerClosed(peer=peer, producer=producer, generation=generation, reason="closed"))

    def consumes(self, peer: str, consumer: str, producer: str, *, generation: int = 1, transport: str = "") -> Story:
        opened = {"consumer": consumer, "producer": producer, "transport": transport or f"{peer}-t"}
        result = example(results.ConsumeResult).model_copy(update={**opened, "generation": generation})
        return self.append(result, peer=peer)

    def consumes_data(
        self, peer: str, consumer: str, producer: str, *, generation: int = 1, transport: str = ""
    ) -> Story:
        opened = {"data_consumer": consumer, "data_producer": producer, "transport": transport or f"{peer}-t"}
        result = example(results.ConsumeDataResult).model_copy(update={**opened, "generation": generation})
        return self.append(result, peer=peer)

    def loses_consumer(self, peer: str, consumer: str, producer: str, generation: int = 1) -> Story:
        return self.append(
            events.ConsumerClosed(
                consumer=consumer, producer=producer, generation=generation, reason="producer-closed"
            ),
            peer=peer,
        )

    def is_done(self, peer: str, intent: str, target: str, generation: int = 1) -> Story:
        """The result of an intent that closes, pauses or resumes an object."""
        return self.append(results.Done(intent=intent, target=target, generation=generation), peer=peer)

    # --- relays ----------------------------------------------------------------------------------

    def orders_relay(
        self, producer: str, source: str, target: str, *, data: bool = False, generation: int = 1
    ) -> Story:
        return self.append(
            commands.OpenRelay(
                room=self.room_id,
                producer=producer,
                data=data,
                source=place(source),
                target=place(target),
                generation=generation,
                explanation=_WHY,
            )
        )

    def opens_relay(self, producer: str, source: str, target: str, *, data: bool = False) -> Story:
        """Command a relay, and its agent opens it."""
        self.orders_relay(producer, source, target, data=data)
        return self.append(events.RelayOpened(producer=producer, data=data, source=place(source), target=place(target)))

    def fails_relay(self, producer: str, source: str, target: str) -> Story:
        error = ErrorInfo.of(RelayUnavailable("the source does not answer"))
        ends = {"source": place(source), "target": place(target)}
        return self.append(events.RelayFailed(producer=producer, data=False, **ends, error=error))

    def closes_relay(self, producer: str, source: str, target: str) -> Story:
        ends = {"source": place(source), "target": place(target)}
        return self.append(events.RelayClosed(producer=producer, data=False, **ends, reason="unused"))


# --- invariants ----------------------------------------------------------------------------------


def violations(state: State) -> list[str]:
    """The invariants of the fold that do not hold, in words; empty if the fold is right."""
    rooms = [found for room in state.rooms.values() for found in (*_objects(state, room), *_room_indexes(room))]
    return [*_worker_indexes(state), *rooms]


def _worker_indexes(state: State) -> Iterator[str]:
    for server in state.servers.values():
        for key, worker in server.workers.items():
            here = {
                (room.room, peer.peer)
                for room in state.rooms.values()
                for peer in room.peers.values()
                if peer.place == worker.place and peer.status != UNPLACED
            }
            if worker.peers != here:
                yield f"worker {key} lists {sorted(worker.peers)}, on it are {sorted(here)}"
            relays = {
                (room.room, relay.producer, relay.target)
                for room in state.rooms.values()
                for relay in room.relays.values()
                if worker.place in (relay.source, relay.target)
            }
            if worker.relays != relays:
                yield f"worker {key} lists the relays {worker.relays}, on it are {relays}"
            if worker.place != Place(server=server.server, worker=key):
                yield f"worker {key} has the place {worker.place}"


def _objects(state: State, room: RoomState) -> Iterator[str]:
    if not room.peers:
        yield f"room {room.room} is empty"
    for peer in room.peers.values():
        if state.worker(peer.place) is None and peer.status != UNPLACED:
            yield f"peer {peer.peer} is {peer.status} on {peer.place}"
        if peer.status == UNPLACED and (peer.transports or peer.consumers):
            yield f"peer {peer.peer} is unplaced and owns objects"
        for consumer in peer.consumers.values():
            if peer.place not in room.places_of(consumer.producer):
                yield f"consumer {consumer.consumer} is where {consumer.producer} is not"
    for producer in room.producers.values():
        owner = room.peers.get(producer.peer)
        if owner is None or (owner.place, owner.generation) != (producer.place, producer.generation):
            yield f"producer {producer.producer} is not where its peer is"
    for (producer_id, target), relay in room.relays.items():
        if producer_id not in room.producers:
            yield f"a relay carries {producer_id}, which is not there"
        if state.worker(relay.source) is None or state.worker(relay.target) is None:
            yield f"a relay of {producer_id} has a dead end"
        if (relay.producer, relay.target) != (producer_id, target):
            yield f"a relay of {producer_id} is listed as another"


def _room_indexes(room: RoomState) -> Iterator[str]:
    consumers: dict[str, set[tuple[str, str]]] = {}
    for peer in room.peers.values():
        for consumer in peer.consumers.values():
            consumers.setdefault(consumer.producer, set()).add((peer.peer, consumer.consumer))
        producers = {producer.producer for producer in room.producers.values() if producer.peer == peer.peer}
        if peer.producers != producers:
            yield f"peer {peer.peer} lists the producers {peer.producers}, it has {producers}"
    if consumers != room.consumers_of:
        yield f"consumers_of is {room.consumers_of}, there are {consumers}"
    targets: dict[str, set[Place]] = {}
    for producer_id, target in room.relays:
        targets.setdefault(producer_id, set()).add(target)
    if targets != room.targets_of:
        yield f"targets_of is {room.targets_of}, there are {targets}"
