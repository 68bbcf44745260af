"""What an audit reads out of the log: the state, the open intents, and since when things are pending. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events
from mafalda.contract.messages.envelope import peek_id
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import Address
from mafalda.monitor.records import Record, unbatched
from mafalda.monitor.replay import apply_record
from mafalda.projection.state import State
from mafalda.snapshot.format import Snapshot
from mafalda.snapshot.state import state_of

Peer = tuple[str, str]  # room, peer
Relay = tuple[str, str, Place]  # room, producer, target

#: What ends workers, and so places.
_ENDING = (events.ServerStarted, events.ServerStopped, events.ServerLost, events.WorkerDied)


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An intent without a result in the log."""

    seq: int
    room: str
    peer: str
    action: str
    id: str


@dataclass(slots=True)
class AuditedLog:
    """The log as an audit needs it, folded entry by entry.

    Entries that made something pending before the snapshot are not known: it is then pending since the snapshot.

    Attributes:
        state: The projected state.
        base_seq: The entry as of which the snapshot was, 0 without one.
    """

    state: State = field(default_factory=State)
    base_seq: int = 0
    _open: dict[tuple[str, str, str], OpenIntent] = field(default_factory=dict)
    _answered_keys: set[tuple[str, str, str]] = field(default_factory=set)
    _joins: dict[str, str] = field(default_factory=dict)  # id of a command: of the join that its agent answers
    _batches: dict[str, list[str]] = field(default_factory=dict)  # id of a batch: of its intents
    _peers: dict[Peer, int] = field(default_factory=dict)  # the entry that gave a peer its place or status
    _relays: dict[Relay, int] = field(default_factory=dict)  # the entry that commanded or opened a relay
    _commanded: dict[str, int] = field(default_factory=dict)  # server: the last command to it
    _consumed: dict[tuple[str, str], int] = field(default_factory=dict)  # room, producer: its consumers changed

    @classmethod
    def begin(cls, snapshot: Snapshot | None) -> AuditedLog:
        """Begin with a snapshot; without one, before the log's first entry."""
        began = cls(state_of(snapshot), snapshot.seq if snapshot else 0)
        for seq, action, room, peer, _, id, *_ in snapshot.fleet.get("openIntents", ()) if snapshot else ():
            ids = snapshot.fleet.get("openItems", {}).get(str(seq), ()) if snapshot else ()
            for item in ids or (id or _substitute_id(seq),):
                began._add(OpenIntent(seq, room, peer, action, item))
            began._batches[id or ""] = list(ids)
        return began

    @property
    def open_intents(self) -> list[OpenIntent]:
        """The intents without a result, in log order."""
        return sorted(self._open.values(), key=lambda intent: intent.seq)

    def peer_since(self, room: str, peer: str) -> int:
        """The entry since which a peer has its place and status."""
        return self._peers.get((room, peer), self.base_seq)

    def relay_since(self, room: str, producer: str, target: Place) -> int:
        """The entry since which a relay has its status."""
        return self._relays.get((room, producer, target), self.base_seq)

    def unused_since(self, room: str, producer: str, target: Place) -> int:
        """The entry since which a relay without consumers has had none, at the latest."""
        changed = self._consumed.get((room, producer), self.base_seq)
        return max(changed, self.relay_since(room, producer, target))

    def commanded_since(self, server: str) -> int:
        """The last command to a server, 0 if there was none since the snapshot."""
        return self._commanded.get(server, 0)

    def fold(self, entry: Record) -> None:
        """Fold one entry; each is given once, in log order."""
        address = entry.address
        if address is None:
            apply_record(self.state, entry)
            return
        data = entry.message.data if entry.message else None
        if address.kind == "intent":
            for part in unbatched(entry):
                action = part.address.action if part.address else address.action
                id = peek_id(part.raw) or _substitute_id(entry.seq)
                self._add(OpenIntent(entry.seq, address.room or "", address.peer or "", action, id))
                if part is not entry:
                    self._batches.setdefault(peek_id(entry.raw) or "", []).append(id)
        elif address.kind == "result":
            for part in unbatched(entry):
                self._answered(address, part.raw)
        elif address.kind == "command":
            self._commanded[address.server or ""] = entry.seq
            if entry.message and isinstance(data, commands.PlacePeer):
                self._joins[entry.message.id] = data.join
        before = self._before(address, data)
        apply_record(self.state, entry)
        self._note_changes(entry.seq, address, data, before)

    def _add(self, intent: OpenIntent) -> None:
        """Add an intent; one with the same id from the same peer is the same intent, also when it has its result."""
        key = (intent.room, intent.peer, intent.id)
        if key not in self._answered_keys and _can_be_answered(intent):
            self._open.setdefault(key, intent)

    def _answered(self, address: Address, raw: bytes) -> None:
        """Close the intent that a result answers, also if it is of a type that this version does not know."""
        try:
            fields: Any = orjson.loads(raw)
            cause, own = str(fields.get("causationid")), str(fields.get("id"))
        except (orjson.JSONDecodeError, AttributeError):
            return
        for id in (cause, own, self._joins.pop(cause, ""), *self._batches.pop(cause, ())):
            key = (address.room or "", address.peer or "", id)
            if self._open.pop(key, None):
                self._answered_keys.add(key)

    def _before(self, address: Address, data: Payload | None) -> _Before:
        """What an entry may change, as it is before it is folded. By subjects, since versions to come add messages."""
        found = _Before()
        if isinstance(data, _ENDING):
            server = self.state.servers.get(data.server)
            name = data.worker if isinstance(data, events.WorkerDied) else None
            for worker in server.workers.values() if server else ():
                found.losing |= worker.peers if name in (None, worker.place.worker) else set()
        room = self.state.rooms.get(address.room or "")
        if room and address.kind == "command":
            found.relays = set(room.relays)
        concerned = (address.room or "", address.peer or str(getattr(data, "peer", "")))
        for who in (concerned, *found.losing):
            found.consumed[who] = self._consumed_by(*who)
        return found

    def _note_changes(self, seq: int, address: Address, data: Payload | None, before: _Before) -> None:
        """Note what an entry has changed."""
        room_id = address.room or ""
        for who, consumed in before.consumed.items():
            for producer in consumed ^ self._consumed_by(*who):
                self._consumed[who[0], producer] = seq
        for who in before.losing:
            self._peers[who] = seq
        room = self.state.rooms.get(room_id)
        for producer, target in set(room.relays) - before.relays if room and address.kind == "command" else ():
            self._relays[room_id, producer, target] = seq
        match data:
            case commands.PlacePeer() | events.PeerJoined() | events.PeerMoved():
                self._peers[room_id, data.peer] = seq
            case events.PeerLeft():
                self._peers.pop((room_id, data.peer), None)
            case events.RelayOpened():
                self._relays[room_id, data.producer, data.target] = seq

    def _consumed_by(self, room_id: str, peer_id: str) -> set[str]:
        room = self.state.rooms.get(room_id)
        peer = room.peers.get(peer_id) if room else None
        return {consumer.producer for consumer in peer.consumers.values()} if peer else set()


@dataclass(slots=True)
class _Before:
    """Of what an entry concerns: the peers that lose their place, what peers consume, the room's relays."""

    losing: set[Peer] = field(default_factory=set)
    consumed: dict[Peer, set[str]] = field(default_factory=dict)
    relays: set[tuple[str, Place]] = field(default_factory=set)


def _can_be_answered(intent: OpenIntent) -> bool:
    """Whether its subject can carry a result; else its sender is answered in the inbox that it named, if any."""
    return not {"*", ">"}.intersection((intent.room, intent.peer, intent.action))


def _substitute_id(seq: int) -> str:
    """The name of an intent without a readable id: that of its rejection by an allocator."""
    return derived_id("rejected", "seq", seq)
