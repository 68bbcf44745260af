"""The agent's judgement: what each entry of the log means for this server.

Entries go in, instructions come out; nothing waits, nothing is asked. The machine keeps the fold of the rooms
that have something here, the places of peers here, and the mirrors (relays that end) here. Rooms are taken in
when they become ours, so each room, and the servers together, have their own position in the log.

What does not belong here: asyncio, the bus, clocks, mediasoup objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mafalda.contract.channels import fits
from mafalda.contract.messages import commands, events
from mafalda.contract.messages.events import ClosedReason
from mafalda.contract.messages.intents import Intent, Join
from mafalda.contract.messages.payload import Place
from mafalda.errors import MafaldaError, NotFound, StaleGeneration, WorkerDied
from mafalda.projection.fold import apply
from mafalda.projection.state import RoomState, State
from mafalda.workers.core.instructions import (
    AdoptPeer,
    CheckWaiting,
    CloseMirror,
    DropPeer,
    Entry,
    ForgetRoom,
    HandleIntent,
    Instruction,
    LoadRoom,
    MirrorKey,
    OpenMirror,
    PlaceGone,
    RefuseRelay,
    RestRoom,
    SettleMirror,
    StandDown,
    StartOver,
    StopCarrying,
    YieldProducer,
)
from mafalda.workers.core.ownership import OwnPeer

#: Empty rooms that are followed on, since reading the past of one that comes back takes the longer the more happened.
MAX_RESTING = 256
#: Why mirrors and consumers go when one of these takes their producer out of the fold.
_REASONS: dict[type[events.Event] | type[commands.Command], ClosedReason] = {
    events.ProducerClosed: "producer-closed",
    events.DataProducerClosed: "producer-closed",
    events.PeerLeft: "peer-left",
    commands.PlacePeer: "peer-moved",
    events.RelayClosed: "closed",
    events.RelayFailed: "closed",
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A mirror of ours: where it comes from, and the sequence of the command that ordered it."""

    source: Place
    seq: int


@dataclass(slots=True)
class _Line:
    """A room that has something here, or had a moment ago, and how far it was taken in from the past.

    ``backlog`` is there while that is being read; ``acted`` are commands from the past that were acted on already,
    should the follower bring them too.
    """

    loaded_seq: int = 0
    acted: set[int] = field(default_factory=set)
    backlog: list[Entry] | None = field(default_factory=list)
    peers: dict[str, OwnPeer] = field(default_factory=dict)
    mirrors: dict[MirrorKey, _Held] = field(default_factory=dict)


class Machine:
    """One incarnation's judgement."""

    def __init__(self, server: str, incarnation: str, workers: Iterable[str]) -> None:
        self.server = server
        self.incarnation = incarnation
        self.workers = set(workers)
        self.state = State()
        self.seq = 0
        self._has_started = False
        self._servers_early: set[int] = set()
        self._lines: dict[str, _Line] = {}
        self._resting: dict[str, None] = {}  # rooms that have nothing here, in the order in which they came to rest

    # --- reading the room -------------------------------------------------------------------------

    def room(self, room: str) -> RoomState | None:
        """The fold of a room of ours."""
        return self.state.rooms.get(room)

    def room_seq(self, room: str) -> int:
        """The log sequence up to which everything in this room is in the fold."""
        line = self._lines.get(room)
        return max(self.seq, line.loaded_seq) if line else 0

    def serves(self, room: str) -> bool:
        """Whether anything of a room is here."""
        line = self._lines.get(room)
        return line is not None and bool(line.peers or line.mirrors)

    def has_peer(self, room: str, peer: str) -> bool:
        """Whether a peer has its place here."""
        return self._own(room, peer) is not None

    def is_loading(self) -> bool:
        """Whether the past of some room is being read."""
        return any(line.backlog is not None for line in self._lines.values())

    # --- stimuli ------------------------------------------------------------------------------------

    def on_entry(self, entry: Entry) -> list[Instruction]:
        """The next entry of the log."""
        self.seq = max(self.seq, entry.seq)
        address = entry.address
        if not fits(address, entry.message.data):
            return []
        if address.kind == "intent":
            return self._intent(entry)
        if address.room is None:
            if entry.seq in self._servers_early:
                self._servers_early.discard(entry.seq)
                return []
            return self._server_entry(entry) if address.kind == "event" else []
        line = self._lines.get(address.room)
        if line is None:
            if not self._is_mine(entry):
                return []
            line = self._lines[address.room] = _Line(backlog=[entry])
            return [LoadRoom(address.room)]
        if line.backlog is not None:
            line.backlog.append(entry)
            return []
        return [*self._room_entry(line, entry), *self._rest_if_empty(address.room)]

    def on_room_loaded(self, room: str, past: Iterable[Entry], up_to_seq: int) -> list[Instruction]:
        """The room's past, and the servers' since we last looked, up to a sequence: go on from there."""
        found: list[Instruction] = []
        rooms: list[Entry] = []
        for entry in past:
            if entry.address.room is not None:
                rooms.append(entry)
            elif entry.seq > self.seq and entry.seq not in self._servers_early:
                self._servers_early.add(entry.seq)
                found += self._server_entry(entry)
        line = self._lines[room]
        for entry in rooms:
            apply(self.state, entry.seq, entry.address, entry.message.data)
        line.loaded_seq = up_to_seq
        backlog, line.backlog = line.backlog or [], None
        # Commands for us may have been read with the past before the follower brings them: do them now.
        due = {entry.seq: entry for entry in rooms if entry.seq > backlog[0].seq and self._is_mine(entry)}
        due |= {entry.seq: entry for entry in backlog}
        for seq in sorted(due):
            found += self._room_entry(line, due[seq])
        return found + self._rest_if_empty(room)

    def on_peer_ready(self, room: str, peer: str, generation: int, missed: list[Entry]) -> list[Instruction]:
        """A peer has what it needs here; ``missed`` was asked before we listened to it."""
        own = self._own(room, peer)
        if own is None or own.generation != generation:
            return []
        return [HandleIntent(room, peer, entry) for entry in own.settle(missed)]

    def on_peer_ended(self, room: str, peer: str, generation: int) -> list[Instruction]:
        """A peer left, or could not be given its place."""
        own = self._own(room, peer)
        if own is None or own.generation != generation:
            return []
        del self._lines[room].peers[peer]
        return self._rest_if_empty(room)

    def on_mirror_ended(self, key: MirrorKey, seq: int) -> list[Instruction]:
        """The mirror that the command ``seq`` ordered closes by our own decision, or could not be opened."""
        line = self._lines.get(key.room)
        held = line.mirrors.get(key) if line else None
        if line is None or held is None or held.seq != seq:
            return []
        del line.mirrors[key]
        return self._rest_if_empty(key.room)

    def on_worker_up(self, worker: str) -> None:
        """A worker of ours can be used."""
        self.workers.add(worker)

    def on_worker_gone(self, worker: str) -> list[Instruction]:
        """A worker of ours has died; the log does not say so yet."""
        self.workers.discard(worker)
        place = Place(server=self.server, worker=worker)
        found: list[Instruction] = [PlaceGone(place)]
        for line in self._lines.values():
            for own in [own for own in line.peers.values() if own.worker == worker]:
                del line.peers[own.peer]
                found.append(DropPeer(own.room, own.peer, own.generation, "worker-died"))
            for mirror, held in list(line.mirrors.items()):
                if mirror.worker == worker or held.source == place:
                    del line.mirrors[mirror]
                    found.append(CloseMirror(mirror, "worker-died"))
        return found + [item for room in list(self._lines) for item in self._rest_if_empty(room)]

    # --- intents ------------------------------------------------------------------------------------

    def _intent(self, entry: Entry) -> list[Instruction]:
        room, peer = entry.address.room or "", entry.address.peer or ""
        own = self._own(room, peer)
        data = entry.message.data
        if own is None or not isinstance(data, Intent) or isinstance(data, Join):
            return []  # placing, and refusing what has no place, is the allocators' business
        if not own.ready:
            own.early.append(entry)
            return []
        return [HandleIntent(room, peer, entry)] if own.take(entry) else []

    # --- rooms --------------------------------------------------------------------------------------

    def _is_mine(self, entry: Entry) -> bool:
        match entry.message.data:
            case commands.PlacePeer(server=server, worker=worker):
                return server == self.server and worker in self.workers
            case commands.OpenRelay(target=target):
                return target.server == self.server and target.worker in self.workers
        return False

    def _room_entry(self, line: _Line, entry: Entry) -> list[Instruction]:
        room = entry.address.room or ""
        if entry.seq > line.loaded_seq:
            apply(self.state, entry.seq, entry.address, entry.message.data)
        elif entry.seq in line.acted or entry.address.kind != "command":
            return []
        else:
            line.acted.add(entry.seq)
        found: list[Instruction] = []
        match entry.message.data:
            case commands.PlacePeer() as place:
                found = self._place(line, entry, place)
            case commands.OpenRelay() as order if order.target.server == self.server:
                found = self._relay(line, entry, order)
            case events.ProducerPaused(producer=producer) | events.ProducerResumed(producer=producer):
                return [SettleMirror(key) for key in line.mirrors if key.producer == producer]
            case events.ProducerOpened(producer=producer, peer=peer):
                return self._yield(line, room, peer, producer)
            case events.DataProducerOpened(data_producer=producer, peer=peer):
                return self._yield(line, room, peer, producer)
            case events.RelayClosed() | events.RelayFailed() as ended if ended.source.server == self.server:
                found = [StopCarrying(room, ended.producer, ended.source.worker, ended.target)]
        reason = _REASONS.get(type(entry.message.data))  # type: ignore[arg-type]
        if reason is None:
            return found
        # What goes comes first: a peer that comes back brings the same producer ids with it.
        return [*self._reconcile(line, room, reason), *found]

    def _place(self, line: _Line, entry: Entry, place: commands.PlacePeer) -> list[Instruction]:
        found: list[Instruction] = []
        own = line.peers.get(place.peer)
        if own and place.generation <= own.generation:
            return []
        if own:
            del line.peers[place.peer]
            found.append(DropPeer(own.room, own.peer, own.generation, "peer-moved"))
        room = self.room(place.room)
        now = room.peers.get(place.peer) if room else None
        if now is None or now.generation != place.generation or not self._is_mine(entry):
            return found  # stale, or elsewhere, or on a worker whose death the allocators are about to learn
        self._resting.pop(place.room, None)
        line.peers[place.peer] = OwnPeer(place.room, place.peer, place.worker, place.generation, place.join)
        return [*found, AdoptPeer(place, entry)]

    def _relay(self, line: _Line, entry: Entry, order: commands.OpenRelay) -> list[Instruction]:
        key = MirrorKey(order.room, order.producer, order.target.worker)
        if key in line.mirrors:
            return []
        if error := self._why_no_relay(order):
            return [RefuseRelay(order, entry, error)]
        self._resting.pop(order.room, None)
        line.mirrors[key] = _Held(order.source, entry.seq)
        return [OpenMirror(key, order, entry)]

    def _why_no_relay(self, order: commands.OpenRelay) -> MafaldaError | None:
        room = self.room(order.room)
        producer = room.producers.get(order.producer) if room else None
        if order.target.worker not in self.workers:
            return WorkerDied("the target worker is dead", worker=order.target.worker)
        if room is None or producer is None:
            return NotFound("no such producer", producer=order.producer)
        if producer.generation != order.generation:
            return StaleGeneration("the producer has moved", now=producer.generation, ordered=order.generation)
        relay = room.relays.get((order.producer, order.target))
        if relay is None or relay.source != order.source:
            return WorkerDied("the source worker is dead", worker=order.source.worker)
        return None

    def _yield(self, line: _Line, room: str, peer: str, producer: str) -> list[Instruction]:
        state = self.room(room)
        holder = state.producers.get(producer) if state else None
        lost = holder is not None and holder.peer != peer and peer in line.peers
        return [YieldProducer(room, peer, producer)] if lost else []

    def _own(self, room: str, peer: str) -> OwnPeer | None:
        line = self._lines.get(room)
        return line.peers.get(peer) if line else None

    def _reconcile(self, line: _Line, room: str, reason: ClosedReason) -> list[Instruction]:
        """Close the mirrors that the fold does not know any more."""
        state = self.room(room)
        found: list[Instruction] = []
        for key, held in list(line.mirrors.items()):
            target = Place(server=self.server, worker=key.worker)
            relay = state.relays.get((key.producer, target)) if state else None
            if relay is None or relay.source != held.source:
                del line.mirrors[key]
                found.append(CloseMirror(key, reason))
        return [*found, CheckWaiting(room)]

    def _rest_if_empty(self, room: str) -> list[Instruction]:
        """Let go of a room that has nothing here. One that is empty everywhere may soon be back, and costs nothing."""
        line = self._lines.get(room)
        if line is None or line.backlog is not None or line.peers or line.mirrors:
            return []
        found: list[Instruction] = [] if room in self._resting else [RestRoom(room)]
        self._resting[room] = None
        state = self.room(room)
        if state is not None and any(peer.place.server != self.server for peer in state.peers.values()):
            return [*found, self._forget(room)]
        if len(self._resting) > MAX_RESTING:
            found.append(self._forget(next(iter(self._resting))))
        return found

    def _forget(self, room: str) -> ForgetRoom:
        del self._lines[room], self._resting[room]
        if state := self.state.rooms.pop(room, None):
            for peer in state.peers.values():
                if worker := self.state.worker(peer.place):
                    worker.peers.discard((room, peer.peer))
        return ForgetRoom(room)

    # --- servers ------------------------------------------------------------------------------------

    def _server_entry(self, entry: Entry) -> list[Instruction]:
        before = self._places()
        apply(self.state, entry.seq, entry.address, entry.message.data)
        match entry.message.data:
            case events.ServerLost(server=self.server, incarnation=self.incarnation):
                return [StartOver()]
            case events.ServerStarted(server=self.server, incarnation=incarnation):
                if self._has_started and incarnation != self.incarnation:
                    return [StandDown(incarnation)]
                self._has_started = incarnation == self.incarnation
        gone = before - self._places()
        if not gone:
            return []
        found: list[Instruction] = [PlaceGone(place) for place in sorted(gone, key=str) if place.server != self.server]
        for room, line in list(self._lines.items()):
            if line.backlog is None:
                found += self._reconcile(line, room, "worker-died")
        return found

    def _places(self) -> set[Place]:
        return {worker.place for server in self.state.servers.values() for worker in server.workers.values()}
