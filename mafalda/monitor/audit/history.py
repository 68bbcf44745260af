"""What an audit reads out of the log: the state, the open intents, and since when things are pending. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.envelope import peek_id
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.subjects import Address
from mafalda.monitor.records import Record
from mafalda.monitor.replay import apply_record
from mafalda.projection.state import State
from mafalda.snapshot.format import Snapshot
from mafalda.snapshot.state import state_of

Peer = tuple[str, str]  # room, peer
Relay = tuple[str, str, Place]  # room, producer, target

#: What ends workers, and so places.
_ENDING = (events.ServerStarted, events.ServerStopped, events.ServerLost, events.WorkerDied)
#: What may end several consumers of one peer.
_CLOSING = (commands.PlacePeer, events.PeerLeft, events.TransportClosed, events.ConsumersClosed, results.Done)


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
    _joins: dict[str, str] = field(default_factory=dict)  # id of a command: of the join that its agent answers
    _peers: dict[Peer, int] = field(default_factory=dict)  # the entry that gave a peer its place or status
    _relays: dict[Relay, int] = field(default_factory=dict)  # the entry that commanded or opened a relay
    _consumed: dict[tuple[str, str], int] = field(default_factory=dict)  # room, producer: its consumers changed

    @classmethod
    def begin(cls, snapshot: Snapshot | None) -> AuditedLog:
        """Begin with a snapshot; without one, before the log's first entry."""
        began = cls(state_of(snapshot), snapshot.seq if snapshot else 0)
        for seq, action, room, peer, _, id, *_ in snapshot.fleet.get("openIntents", ()) if snapshot else ():
            began._add(OpenIntent(seq, room, peer, action, id or _substitute_id(seq)))
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

    def fold(self, entry: Record) -> None:
        """Fold one entry; each is given once, in log order."""
        address = entry.address
        if address is None:
            apply_record(self.state, entry)
            return
        data = entry.message.data if entry.message else None
        if address.kind == "intent":
            id = peek_id(entry.raw) or _substitute_id(entry.seq)
            self._add(OpenIntent(entry.seq, address.room or "", address.peer or "", address.action, id))
        elif address.kind == "result":
            self._answered(address, entry.raw)
        elif entry.message and isinstance(data, commands.PlacePeer):
            self._joins[entry.message.id] = data.join
        self._note_closed(entry.seq, address, data)
        apply_record(self.state, entry)
        self._note_opened(entry.seq, address, data)

    def _add(self, intent: OpenIntent) -> None:
        """Add an intent; one with the same id from the same peer is the same intent."""
        self._open.setdefault((intent.room, intent.peer, intent.id), intent)

    def _answered(self, address: Address, raw: bytes) -> None:
        """Close the intent that a result answers, also if it is of a type that this version does not know."""
        try:
            fields: Any = orjson.loads(raw)
            cause, own = str(fields.get("causationid")), str(fields.get("id"))
        except (orjson.JSONDecodeError, AttributeError):
            return
        for id in (cause, own, self._joins.pop(cause, "")):
            self._open.pop((address.room or "", address.peer or "", id), None)

    def _note_closed(self, seq: int, address: Address, data: Payload | None) -> None:
        """Note what an entry is going to end; before it is folded."""
        room = address.room or ""
        if isinstance(data, _ENDING):
            server = self.state.servers.get(data.server)
            name = data.worker if isinstance(data, events.WorkerDied) else None
            for worker in server.workers.values() if server else ():
                for peer in worker.peers if name in (None, worker.place.worker) else ():
                    self._peers[peer] = seq
                    self._note_consumers(seq, *peer)
        elif isinstance(data, events.ConsumerClosed):
            self._consumed[room, data.producer] = seq
        elif isinstance(data, events.DataConsumerClosed):
            self._consumed[room, data.data_producer] = seq
        elif isinstance(data, _CLOSING):
            self._note_consumers(seq, room, address.peer or str(getattr(data, "peer", "")))

    def _note_consumers(self, seq: int, room_id: str, peer_id: str) -> None:
        room = self.state.rooms.get(room_id)
        peer = room.peers.get(peer_id) if room else None
        for consumer in peer.consumers.values() if peer else ():
            self._consumed[room_id, consumer.producer] = seq

    def _note_opened(self, seq: int, address: Address, data: Payload | None) -> None:
        """Note what an entry began; after it was folded."""
        room = address.room or ""
        match data:
            case commands.PlacePeer() | events.PeerJoined() | events.PeerMoved():
                self._peers[room, data.peer] = seq
            case events.PeerLeft():
                self._peers.pop((room, data.peer), None)
            case commands.OpenRelay() | events.RelayOpened():
                self._relays[room, data.producer, data.target] = seq
            case commands.OpenRelays():
                for order in data.relays:
                    self._relays[room, order.producer, data.target] = seq
            case events.ConsumersOpened():
                for consumer in data.consumers:
                    self._consumed[room, consumer.producer] = seq
            case events.RelayClosed() | events.RelayFailed():
                self._relays.pop((room, data.producer, data.target), None)
            case results.ConsumeResult():
                self._consumed[room, data.producer] = seq
            case results.ConsumeDataResult():
                self._consumed[room, data.data_producer] = seq


def _substitute_id(seq: int) -> str:
    """The name of an intent without a readable id: that of its rejection by an allocator."""
    return derived_id("rejected", "seq", seq)
