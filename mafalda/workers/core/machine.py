"""The agent's state machine: what each log entry, and each result of an instruction, means for this server.

Stimuli go in, instructions come out (``stimuli``, ``instructions``); nothing here waits or does I/O. The machine keeps
the fold of the rooms that have something here, the placements of peers here, and the relay targets here. A room is
loaded when it first gets something here, so each room, and the servers together, have their own position in the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from mafalda.contract.channels import fits
from mafalda.contract.messages import commands, events
from mafalda.contract.messages.events import ClosedReason
from mafalda.contract.messages.intents import EndRoom, Intent, IntentBatch, Join, Produce, ProduceData
from mafalda.contract.messages.payload import Payload, Place
from mafalda.errors import MafaldaError, NotFound, StaleGeneration, WorkerExited
from mafalda.projection.codec import add_room, add_server
from mafalda.projection.fold import apply
from mafalda.projection.state import RoomState, State
from mafalda.workers.core import stimuli
from mafalda.workers.core.instructions import (
    AdoptPeer,
    CheckRelayWaiters,
    CheckSubscriptions,
    CloseDuplicateProducer,
    CloseHandedOver,
    ClosePipeSources,
    CloseRelaySource,
    CloseRelayTarget,
    DropPeer,
    Entry,
    ForgetRoom,
    HandOverPeer,
    IdleRoom,
    Instruction,
    LoadRoom,
    OpenRelayTarget,
    ReconcileRelayTarget,
    RefuseRelay,
    RelayKey,
    ResetIncarnation,
    Superseded,
)
from mafalda.workers.core.local_room import LocalRoom, OrderedRelay
from mafalda.workers.core.placed_peer import PlacedPeer

#: Idle rooms that stay subscribed: reading the past of one that gets a peer again takes the longer, the more happened.
MAX_IDLE = 256
#: Why relay targets are closed when one of these removes their producer from the fold.
_REASONS: dict[type[events.Event] | type[commands.Command], ClosedReason] = {
    events.ProducerClosed: "producer-closed",
    events.DataProducerClosed: "producer-closed",
    events.PeerLeft: "peer-left",
    commands.PlacePeer: "peer-moved",
    events.RelayClosed: "closed",
    events.RelayFailed: "closed",
}


class Machine:
    """The state of one incarnation of a server's agent. ``handle`` is its only way in.

    ========= ======================================= ========= =========================================
    a room is what happens                            next      instructions
    ========= ======================================= ========= =========================================
    unknown   a command places something here         loading   LoadRoom
    loading   its past cannot be read                 loading   LoadRoom again, after a growing delay
    loading   its past was read                       local     what the past and the backlog require
    local     its last peer or relay target ended     idle      IdleRoom
    idle      a command places something here         local     AdoptPeer or OpenRelayTarget
    idle      peers on other servers, or too many     unknown   ForgetRoom
              rooms are idle
    ========= ======================================= ========= =========================================
    """

    def __init__(self, server: str, incarnation: str, workers: Iterable[str]) -> None:
        self.server = server
        self.incarnation = incarnation
        self.workers = set(workers)
        self.state = State()
        self.seq = 0
        self._has_started = False
        self._server_seqs_ahead: set[int] = set()  # of server events that were read with a room, ahead of the rest
        self._rooms: dict[str, LocalRoom] = {}
        self._idle: dict[str, None] = {}  # in the order in which they became idle

    # --- what the shell may read --------------------------------------------------------------------

    def room(self, room: str) -> RoomState | None:
        """The fold of a room that has something here."""
        return self.state.rooms.get(room)

    def room_seq(self, room: str) -> int:
        """The log sequence up to which the fold has everything of this room."""
        local = self._rooms.get(room)
        return max(self.seq, local.loaded_seq) if local else 0

    def has_room(self, room: str) -> bool:
        """Whether a peer or a relay target of a room is here."""
        local = self._rooms.get(room)
        return local is not None and not local.is_empty

    def has_peer(self, room: str, peer: str) -> bool:
        """Whether a peer is placed here."""
        return self._placement(room, peer) is not None

    def placed_peers(self) -> list[commands.PlacePeer]:
        """The placement of each peer that is placed here."""
        return [placed.command for local in self._rooms.values() for placed in local.peers.values()]

    def count_handed_over(self) -> int:
        """How many peers have another place and are still served here."""
        return sum(len(local.handed_over) for local in self._rooms.values())

    def is_loading(self) -> bool:
        """Whether the past of some room is being read."""
        return any(local.backlog is not None for local in self._rooms.values())

    def begin(self, servers: Iterable[dict[str, Any]], seq: int) -> None:
        """Take the servers from a snapshot, before the first entry.

        Args:
            servers: As ``projection.codec`` writes them.
            seq: The log entry as of which they are.
        """
        self.seq = seq
        for server in servers:
            add_server(self.state, server)

    # --- stimuli ------------------------------------------------------------------------------------

    def handle(self, stimulus: stimuli.Stimulus) -> list[Instruction]:
        """Take in a stimulus; returns what the shell has to do, in this order."""
        match stimulus:
            case stimuli.EntryRead(entry):
                return self._entry(entry)
            case stimuli.RoomLoaded(room, past, up_to_seq, snapshot):
                return self._room_loaded(room, past, up_to_seq, snapshot)
            case stimuli.RoomLoadFailed(room):
                return self._load_again(room)
            case stimuli.PeerReady(room, peer, generation, missed):
                placement = self._placement(room, peer, generation)
                return placement.ready(missed) if placement else []
            case stimuli.PeerRefused(room, peer, generation, error):
                return self._peer_failed(room, peer, generation, error, refused=True)
            case stimuli.PeerTaskFailed(room, peer, generation, error):
                return self._peer_failed(room, peer, generation, error, refused=False)
            case stimuli.PeerEnded(room, peer, generation):
                return self._peer_ended(room, peer, generation)
            case stimuli.HandoverEnded(room, peer, generation):
                return self._handover_ended(room, peer, generation)
            case stimuli.RelayTargetEnded(key, seq):
                return self._relay_ended(key, seq)
            case stimuli.WorkerUp(worker):
                self.workers.add(worker)
                return []
            case stimuli.WorkerGone(worker):
                return self._worker_gone(worker)
            case stimuli.InstructionFailed(instruction, error):
                return self._instruction_failed(instruction, error)

    def _entry(self, entry: Entry) -> list[Instruction]:
        self.seq = max(self.seq, entry.seq)
        address = entry.address
        if not fits(address, entry.message.data):
            return []
        if address.kind == "intent":
            return self._intent(entry)
        if address.room is None:
            if entry.seq in self._server_seqs_ahead:
                self._server_seqs_ahead.discard(entry.seq)
                return []
            return self._server_entry(entry) if address.kind == "event" else []
        local = self._rooms.get(address.room)
        if local is None:
            if not self._is_for_us(entry):
                return []
            self._rooms[address.room] = LocalRoom(backlog=[entry])
            return [LoadRoom(address.room)]
        if local.backlog is not None:
            local.backlog.append(entry)
            return []
        return [*self._room_entry(local, entry), *self._idle_if_empty(address.room)]

    def _instruction_failed(self, instruction: Instruction, error: MafaldaError) -> list[Instruction]:
        """Undo what the machine has noted for an instruction that was not executed."""
        match instruction:
            case LoadRoom(room):
                self._rooms.pop(room, None)  # the next command that places something here loads it
            case AdoptPeer(command):
                return self._peer_failed(command.room, command.peer, command.generation, error, refused=False)
            case OpenRelayTarget(key, command, entry):
                return [*self._relay_ended(key, entry.seq), RefuseRelay(command, entry, error)]
        return []

    # --- peers --------------------------------------------------------------------------------------

    def _intent(self, entry: Entry) -> list[Instruction]:
        placement = self._placement(entry.address.room or "", entry.address.peer or "")
        data = entry.message.data
        if placement is None or not isinstance(data, Intent) or isinstance(data, Join | EndRoom):
            return []  # allocators place peers, end rooms, and reject the intents of those that are not placed
        ended: list[Instruction] = []
        for it in entry.unbatched() if isinstance(data, Produce | ProduceData | IntentBatch) else ():
            if isinstance(wanted := it.message.data, Produce | ProduceData):  # the relay to this worker has the same id
                producer = wanted.producer if isinstance(wanted, Produce) else wanted.data_producer
                ended += self._end_kept(placement.room, producer=producer, worker=placement.worker)
        return [*ended, *placement.intent(entry)]

    def _placement(self, room: str, peer: str, generation: int | None = None) -> PlacedPeer | None:
        local = self._rooms.get(room)
        found = local.peers.get(peer) if local else None
        return found if found and generation in (None, found.generation) else None

    def _peer_failed(
        self, room: str, peer: str, generation: int, error: MafaldaError, *, refused: bool
    ) -> list[Instruction]:
        placement = self._placement(room, peer, generation)
        if placement is None:
            return []
        found = placement.refused(error) if refused else placement.task_failed(error)
        return [*found, *self._peer_ended(room, peer, generation)] if placement.state == "ended" else found

    def _peer_ended(self, room: str, peer: str, generation: int) -> list[Instruction]:
        if self._placement(room, peer, generation) is None:
            return []
        del self._rooms[room].peers[peer]
        return self._idle_if_empty(room)

    def _place(self, local: LocalRoom, entry: Entry, place: commands.PlacePeer) -> list[Instruction]:
        found: list[Instruction] = []
        placed = local.peers.get(place.peer)
        if placed and place.generation <= placed.generation:
            return []
        if placed:
            del local.peers[place.peer]
            if place.handover and place.server != self.server:
                local.handed_over[placed.peer] = placed.generation
                return [HandOverPeer(placed.room, placed.peer, placed.generation)]
            found.append(DropPeer(placed.room, placed.peer, placed.generation, "peer-moved"))
        elif place.peer in local.handed_over:
            found.append(CloseHandedOver(place.room, place.peer))
        room = self.room(place.room)
        now = room.peers.get(place.peer) if room else None
        if now is None or now.generation != place.generation or not self._is_for_us(entry):
            return found  # outdated, for another server, or for a worker that is dead
        self._idle.pop(place.room, None)
        local.peers[place.peer] = PlacedPeer(place, entry)
        return [*found, AdoptPeer(place, entry)]

    # --- handovers ----------------------------------------------------------------------------------

    def _handover_ended(self, room: str, peer: str, generation: int) -> list[Instruction]:
        local = self._rooms.get(room)
        if local is None or local.handed_over.get(peer) != generation:
            return []
        del local.handed_over[peer]
        return self._idle_if_empty(room)

    def _handed_over_producers(self, data: Payload) -> set[str]:
        """The producers that a handover is about to remove from the fold."""
        if not isinstance(data, commands.PlacePeer) or not data.handover:
            return set()
        room = self.room(data.room)
        peer = room.peers.get(data.peer) if room else None
        return set(peer.producers) if peer and data.generation > peer.generation else set()

    def _end_kept(
        self, room: str, *, producer: str | None = None, peer: str | None = None, worker: str | None = None
    ) -> list[Instruction]:
        """Close relay targets that were kept for a handover."""
        local = self._rooms[room]
        keys = local.end_kept_relays(producer=producer, peer=peer, worker=worker)
        return [CloseRelayTarget(key, "peer-moved") for key in keys]

    def _end_handover(self, local: LocalRoom, room: str, event: Payload) -> list[Instruction]:
        """A producer of a peer that is handed over is open at the new place or is closed, or the peer has left."""
        match event:
            case events.PeerLeft(peer=peer):
                ended: list[Instruction] = [CloseHandedOver(room, peer)] if peer in local.handed_over else []
                return [*ended, *self._end_kept(room, peer=peer)]
            case events.ProducerOpened(peer=peer, producer=producer):
                ended = [CloseHandedOver(room, peer, producer)] if peer in local.handed_over else []
                return [*ended, *self._end_kept(room, producer=producer)]
            case events.DataProducerOpened(peer=peer, data_producer=producer):
                ended = [CloseHandedOver(room, peer, producer)] if peer in local.handed_over else []
                return [*ended, *self._end_kept(room, producer=producer)]
            case events.ProducerClosed(producer=producer) | events.DataProducerClosed(data_producer=producer):
                return self._end_kept(room, producer=producer)
        return []

    # --- workers ------------------------------------------------------------------------------------

    def _worker_gone(self, worker: str) -> list[Instruction]:
        self.workers.discard(worker)
        place = Place(server=self.server, worker=worker)
        found: list[Instruction] = [ClosePipeSources(place)]
        for local in self._rooms.values():
            for placed in [placed for placed in local.peers.values() if placed.worker == worker]:
                del local.peers[placed.peer]
                found.append(DropPeer(placed.room, placed.peer, placed.generation, "worker-died"))
            for key, relay in list(local.relays.items()):
                if key.worker == worker or relay.source == place:
                    del local.relays[key]
                    found.append(CloseRelayTarget(key, "worker-died"))
        return found + [instruction for room in list(self._rooms) for instruction in self._idle_if_empty(room)]

    # --- rooms --------------------------------------------------------------------------------------

    def _room_loaded(
        self, room: str, past: list[Entry], up_to_seq: int, snapshot: dict[str, Any] | None
    ) -> list[Instruction]:
        found: list[Instruction] = []
        of_room: list[Entry] = []
        for entry in past:
            if entry.address.room is not None:
                of_room.append(entry)
            elif entry.seq > self.seq and entry.seq not in self._server_seqs_ahead:
                self._server_seqs_ahead.add(entry.seq)
                found += self._server_entry(entry)
        local = self._rooms[room]
        if snapshot and snapshot["peers"]:
            add_room(self.state, snapshot)
        for entry in of_room:
            apply(self.state, entry.seq, entry.address, entry.message.data)
        local.loaded_seq = up_to_seq
        backlog, local.backlog = local.backlog or [], None
        # Commands for this server may have been read with the past before the subscription delivers them: execute them.
        due = {entry.seq: entry for entry in of_room if entry.seq > backlog[0].seq and self._is_for_us(entry)}
        due |= {entry.seq: entry for entry in backlog}
        for seq in sorted(due):
            found += self._room_entry(local, due[seq])
        return found + self._idle_if_empty(room)

    def _load_again(self, room: str) -> list[Instruction]:
        local = self._rooms.get(room)
        if local is None or local.backlog is None:
            return []
        return [LoadRoom(room, local.next_load_delay_s())]

    def _is_for_us(self, entry: Entry) -> bool:
        match entry.message.data:
            case commands.PlacePeer(server=server, worker=worker):
                return server == self.server and worker in self.workers
            case commands.OpenRelay(target=target) | commands.OpenRelays(target=target):
                return target.server == self.server and target.worker in self.workers
        return False

    def _room_entry(self, local: LocalRoom, entry: Entry) -> list[Instruction]:
        room = entry.address.room or ""
        data = entry.message.data
        if entry.seq > local.loaded_seq:
            moving = self._handed_over_producers(data)
            apply(self.state, entry.seq, entry.address, data)
            if isinstance(data, commands.PlacePeer):
                local.keep_relays(data.peer, moving)
        elif entry.seq in local.acted or entry.address.kind != "command":
            return []
        else:
            local.acted.add(entry.seq)
        found = self._end_handover(local, room, data)
        match data:
            case commands.PlacePeer() as place:
                found = self._place(local, entry, place)
            case commands.OpenRelay() as order if order.target.server == self.server:
                found = self._open_relay(local, entry, order)
            case commands.OpenRelays() as batch if batch.target.server == self.server:
                return [it for order in _orders(batch) for it in self._open_relay(local, entry, order)]
            case events.ProducerPaused(producer=producer) | events.ProducerResumed(producer=producer):
                return [ReconcileRelayTarget(key) for key in local.relays if key.producer == producer]
            case events.ProducerOpened(producer=producer, peer=peer):
                return [*found, *self._producer_opened(local, room, peer, producer)]
            case events.DataProducerOpened(data_producer=producer, peer=peer):
                return [*found, *self._producer_opened(local, room, peer, producer)]
            case events.RelayClosed() | events.RelayFailed() as ended if ended.source.server == self.server:
                found = [CloseRelaySource(room, ended.producer, ended.source.worker, ended.target)]
        reason = _REASONS.get(type(data))  # type: ignore[arg-type]
        if reason is None:
            return found
        # Closing comes first: a peer that comes back brings the same producer ids with it.
        return [*self._close_ended_relay_targets(local, room, reason), *found]

    def _producer_opened(self, local: LocalRoom, room: str, peer: str, producer: str) -> list[Instruction]:
        state = self.room(room)
        owner = state.producers.get(producer) if state else None
        if owner is not None and owner.peer != peer:
            return [CloseDuplicateProducer(room, peer, producer)] if peer in local.peers else []
        return [CheckSubscriptions(room, producer)] if local.peers else []

    def _idle_if_empty(self, room: str) -> list[Instruction]:
        """Make a room idle that has nothing here. One that is empty on all servers stays subscribed for a while."""
        local = self._rooms.get(room)
        if local is None or local.backlog is not None or not local.is_empty:
            return []
        found: list[Instruction] = [] if room in self._idle else [IdleRoom(room)]
        self._idle[room] = None
        state = self.room(room)
        if state is not None and any(peer.place.server != self.server for peer in state.peers.values()):
            return [*found, self._forget(room)]
        if len(self._idle) > MAX_IDLE:
            found.append(self._forget(next(iter(self._idle))))
        return found

    def _forget(self, room: str) -> ForgetRoom:
        del self._rooms[room], self._idle[room]
        self.state.forget_room(room)
        return ForgetRoom(room)

    # --- relays -------------------------------------------------------------------------------------

    def _open_relay(self, local: LocalRoom, entry: Entry, order: commands.OpenRelay) -> list[Instruction]:
        key = RelayKey(order.room, order.producer, order.target.worker)
        found = self._end_kept(order.room, producer=order.producer, worker=order.target.worker)
        if key in local.relays:
            return found
        if error := self._why_no_relay(order):
            return [*found, RefuseRelay(order, entry, error)]
        self._idle.pop(order.room, None)
        local.relays[key] = OrderedRelay(order.source, entry.seq)
        return [*found, OpenRelayTarget(key, order, entry)]

    def _why_no_relay(self, order: commands.OpenRelay) -> MafaldaError | None:
        room = self.room(order.room)
        producer = room.producers.get(order.producer) if room else None
        if order.target.worker not in self.workers:
            return WorkerExited("the target worker is dead", worker=order.target.worker)
        if room is None or producer is None:
            return NotFound("no such producer", producer=order.producer)
        if producer.generation != order.generation:
            return StaleGeneration("the producer has moved", now=producer.generation, ordered=order.generation)
        relay = room.relays.get((order.producer, order.target))
        if relay is None or relay.source != order.source:
            return WorkerExited("the source worker is dead", worker=order.source.worker)
        return None

    def _relay_ended(self, key: RelayKey, seq: int) -> list[Instruction]:
        local = self._rooms.get(key.room)
        relay = local.relays.get(key) if local else None
        if local is None or relay is None or relay.seq != seq:
            return []
        del local.relays[key]
        return self._idle_if_empty(key.room)

    def _close_ended_relay_targets(
        self, local: LocalRoom, room: str, reason: ClosedReason, gone: Collection[Place] = ()
    ) -> list[Instruction]:
        """Close the relay targets that the fold no longer has. One that is kept ends if its source is in ``gone``."""
        state = self.room(room)
        found: list[Instruction] = []
        for key, ordered in list(local.relays.items()):
            if ordered.moving is not None and ordered.source not in gone:
                continue
            target = Place(server=self.server, worker=key.worker)
            relay = state.relays.get((key.producer, target)) if state else None
            if relay is None or relay.source != ordered.source:
                del local.relays[key]
                found.append(CloseRelayTarget(key, reason))
        return [*found, CheckRelayWaiters(room)]

    # --- servers ------------------------------------------------------------------------------------

    def _server_entry(self, entry: Entry) -> list[Instruction]:
        before = self._places()
        apply(self.state, entry.seq, entry.address, entry.message.data)
        match entry.message.data:
            case events.ServerLost(server=self.server, incarnation=self.incarnation):
                return [ResetIncarnation()]
            case events.ServerStarted(server=self.server, incarnation=incarnation):
                if self._has_started and incarnation != self.incarnation:
                    return [Superseded(incarnation)]
                self._has_started = incarnation == self.incarnation
        gone = before - self._places()
        if not gone:
            return []
        found: list[Instruction] = [
            ClosePipeSources(place) for place in sorted(gone, key=str) if place.server != self.server
        ]
        for room, local in list(self._rooms.items()):
            if local.backlog is None:
                found += self._close_ended_relay_targets(local, room, "worker-died", gone)
        return found

    def _places(self) -> set[Place]:
        return {worker.place for server in self.state.servers.values() for worker in server.workers.values()}


def _orders(batch: commands.OpenRelays) -> list[commands.OpenRelay]:
    """The relays of a batch, each as an order of its own."""
    return [
        commands.OpenRelay(
            room=batch.room,
            producer=it.producer,
            data=it.data,
            source=it.source,
            target=batch.target,
            generation=it.generation,
            explanation=batch.explanation,
        )
        for it in batch.relays
    ]
