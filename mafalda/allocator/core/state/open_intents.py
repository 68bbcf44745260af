"""Intents that have no result yet, and the consumes among them that wait for a relay. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from mafalda.contract.ids import derived_id
from mafalda.contract.messages.envelope import Message
from mafalda.contract.subjects import Address
from mafalda.errors import MafaldaError

Peer = tuple[str, str]  # room, peer
Standing = Literal["absent", "joining", "placed", "lost", "unplaced"]

#: Intents of one peer that may wait for its join; as many as may wait in its agent's queue.
MAX_WAITING = 512
#: Parked intents that are not open any more are dropped when more producers than this are waited for.
_MANY_PARKED = 1_000


@dataclass(slots=True, eq=False)
class OpenIntent:
    """An intent without a result. Times are seconds, monotonic.

    ``message`` is set when the intent is first decoded. ``since_s`` is when it was last decided, ``first_s`` when it
    was folded, ``lost_s`` when the place that it was for ended. ``reply_to`` is the private inbox that it names.
    ``refused`` is the error that it gets as soon as it is decided. ``items`` are the ids of a batch's intents that have
    no result yet. ``standing`` is that of its peer:

    | standing | when the intent was stored, the peer | later |
    | --- | --- | --- |
    | ``absent`` | had not joined | |
    | ``joining`` | had requested to join, and no place had answered | ``placed`` when it is placed |
    | ``placed`` | had a place; its agent answers | ``lost`` when that ends, ``joining`` if it had not joined there |
    | ``lost`` | had a place that has ended; its agent may still answer | |
    | ``unplaced`` | had lost its place | |
    """

    seq: int
    address: Address
    raw: bytes
    id: str | None
    since_s: float
    standing: Standing
    first_s: float = 0.0
    message: Message | None = None
    reply_to: str | None = None
    refused: MafaldaError | None = None
    lost_s: float = float("-inf")
    items: set[str] = field(default_factory=set)

    @property
    def peer(self) -> Peer:
        return self.address.room or "", self.address.peer or ""

    @property
    def correlation(self) -> str | None:
        """The correlation id of everything that follows from it."""
        return self.message.correlation if self.message else self.id

    @property
    def rejection_id(self) -> str:
        """The id of an allocator's rejection: the same from every allocator, so that it is stored once."""
        return derived_id("rejected", *self.peer, self.id) if self.id else derived_id("rejected", "seq", self.seq)


@dataclass(slots=True)
class OpenIntents:
    """All open intents, in log order, with indexes by id, by peer and by room, and the joins that wait for capacity."""

    _by_seq: dict[int, OpenIntent] = field(default_factory=dict)
    _by_name: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _by_room: dict[str, dict[str, set[int]]] = field(default_factory=dict)  # room: peer: sequences
    _waiting: dict[int, None] = field(default_factory=dict)  # in the order in which they began to wait

    def __len__(self) -> int:
        return len(self._by_seq)

    def __iter__(self) -> Iterator[OpenIntent]:
        return iter(self._by_seq.values())

    def add(self, intent: OpenIntent) -> None:
        """Add an intent; one with the same id from the same peer is the same intent."""
        room, peer = intent.peer
        name = (room, peer, intent.id or intent.rejection_id)
        if name in self._by_name:
            return
        self._by_seq[intent.seq] = intent
        self._by_name[name] = intent.seq
        intent.items = {item for item in intent.items if (room, peer, item) not in self._by_name}
        for item in intent.items:
            self._by_name[room, peer, item] = intent.seq
        self._by_room.setdefault(room, {}).setdefault(peer, set()).add(intent.seq)

    def get(self, seq: int) -> OpenIntent | None:
        """The intent of a log entry, if it is still open."""
        return self._by_seq.get(seq)

    def of_peer(self, peer: Peer) -> list[OpenIntent]:
        """The open intents of a peer, in log order."""
        return [self._by_seq[seq] for seq in sorted(self._by_room.get(peer[0], {}).get(peer[1], ()))]

    def count(self, peer: Peer) -> int:
        """How many intents of a peer are open."""
        return len(self._by_room.get(peer[0], {}).get(peer[1], ()))

    def has_join(self, peer: Peer) -> bool:
        """Whether a join of the peer is open."""
        seqs = self._by_room.get(peer[0], {}).get(peer[1], ())
        return any(self._by_seq[seq].address.action == "join" for seq in seqs)

    def of_room(self, room: str) -> Iterator[OpenIntent]:
        """The open intents of a room."""
        for seqs in self._by_room.get(room, {}).values():
            for seq in seqs:
                yield self._by_seq[seq]

    @property
    def waiting_count(self) -> int:
        """How many joins wait for capacity."""
        return len(self._waiting)

    def waiting(self, limit: int) -> list[OpenIntent]:
        """The joins that have waited longest for capacity."""
        return [self._by_seq[seq] for seq in islice(self._waiting, limit)]

    def wait(self, intent: OpenIntent, *, waits: bool) -> bool:
        """Add a join to those that wait for capacity, or remove it. Returns whether it waited."""
        waited = intent.seq in self._waiting
        if waits and intent.seq in self._by_seq:
            self._waiting.setdefault(intent.seq)
        else:
            self._waiting.pop(intent.seq, None)
        return waited

    def close(self, seq: int) -> None:
        """Remove an intent that needs nothing more from allocators."""
        self._waiting.pop(seq, None)
        intent = self._by_seq.pop(seq, None)
        if intent is None:
            return
        room, peer = intent.peer
        del self._by_name[room, peer, intent.id or intent.rejection_id]
        for item in intent.items:
            del self._by_name[room, peer, item]
        peers = self._by_room[room]
        peers[peer].discard(seq)
        if not peers[peer]:
            del peers[peer]
        if not peers:
            del self._by_room[room]

    def answered(self, peer: Peer, *names: str | None) -> None:
        """Close the intents of these ids: a message that answers them is in the log. A batch, when all of it is."""
        for name in names:
            seq = self._by_name.get((*peer, name)) if name else None
            if seq is None or name is None:
                continue
            items = self._by_seq[seq].items
            is_one_of_many = name in items and len(items) > 1
            if is_one_of_many:
                items.discard(name)
                del self._by_name[(*peer, name)]
            else:
                self.close(seq)


@dataclass(slots=True)
class ParkedIntents:
    """Intents that are decided again at once: consumes when a relay of their producer opens or ends, and others."""

    _parked: dict[tuple[str, str], set[int]] = field(default_factory=dict)  # (room, producer): sequences
    _woken: list[int] = field(default_factory=list)

    def park(self, intent: OpenIntent, producer: str, open_intents: OpenIntents) -> None:
        """Decide an intent again when a relay of the producer opens or ends."""
        if len(self._parked) > _MANY_PARKED:
            still_open = {key: {seq for seq in seqs if open_intents.get(seq)} for key, seqs in self._parked.items()}
            self._parked = {key: seqs for key, seqs in still_open.items() if seqs}
        self._parked.setdefault((intent.peer[0], producer), set()).add(intent.seq)

    def wake(self, room: str, producer: str) -> None:
        """A relay of the producer opened or ended."""
        self._woken += sorted(self._parked.pop((room, producer), ()))

    def wake_intent(self, intent: OpenIntent) -> None:
        """What the intent waited for has happened."""
        self._woken.append(intent.seq)

    def take_woken(self) -> list[int]:
        """The sequences of the intents to be decided again, since the last call."""
        woken, self._woken = self._woken, []
        return woken
