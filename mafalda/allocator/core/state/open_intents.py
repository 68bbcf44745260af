"""What waits for a decision: intents that nobody has answered yet, peers without a place. Pure.

What does not belong here: whether one is this allocator's to answer (``runner``), and how (``decide``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mafalda.contract.ids import derived_id
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.envelope import Message
from mafalda.contract.subjects import Address

Peer = tuple[str, str]  # room, peer
Standing = Literal["absent", "homeless", "placed"]


@dataclass(slots=True, eq=False)
class OpenIntent:
    """An unanswered intent. ``standing`` is that of its peer at the moment the intent was stored.

    ``message`` is filled when somebody first has to look inside. ``since_s`` is when it was last looked
    at, ``first_s`` when it came.
    """

    seq: int
    address: Address
    raw: bytes
    id: str | None
    since_s: float
    standing: Standing
    first_s: float = 0.0
    message: Message | None = None

    @property
    def peer(self) -> Peer:
        return self.address.room or "", self.address.peer or ""

    @property
    def correlation(self) -> str | None:
        """The correlation id of whatever follows from it."""
        return self.message.correlation if self.message else self.id

    @property
    def rejection_id(self) -> str:
        """The id of an allocator's rejection: the same from every allocator, so it is stored once."""
        return derived_id("rejected", *self.peer, self.id) if self.id else derived_id("rejected", "seq", self.seq)


@dataclass(slots=True, eq=False)
class Homeless:
    """A peer without a place. ``seq`` is the log entry that made it so, ``event`` what it said."""

    room: str
    peer: str
    seq: int
    since_s: float
    cause: PlacementCause
    event: Message | None
    stranded: bool = False


@dataclass(slots=True)
class OpenIntents:
    """All of them, in log order."""

    _by_seq: dict[int, OpenIntent] = field(default_factory=dict)
    _by_name: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _by_peer: dict[Peer, set[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_seq)

    def __iter__(self) -> Iterator[OpenIntent]:
        return iter(self._by_seq.values())

    def add(self, intent: OpenIntent) -> None:
        """Take one in; the same id of the same peer again is the same intent."""
        name = (*intent.peer, intent.id or intent.rejection_id)
        if name in self._by_name:
            return
        self._by_seq[intent.seq] = intent
        self._by_name[name] = intent.seq
        self._by_peer.setdefault(intent.peer, set()).add(intent.seq)

    def get(self, seq: int) -> OpenIntent | None:
        """The intent of a log entry, if it is still open."""
        return self._by_seq.get(seq)

    def of(self, peer: Peer) -> list[OpenIntent]:
        """A peer's, in log order."""
        return [self._by_seq[seq] for seq in sorted(self._by_peer.get(peer, ()))]

    def close(self, seq: int) -> None:
        """It needs nothing more from allocators."""
        intent = self._by_seq.pop(seq, None)
        if intent is None:
            return
        del self._by_name[(*intent.peer, intent.id or intent.rejection_id)]
        of = self._by_peer[intent.peer]
        of.discard(seq)
        if not of:
            del self._by_peer[intent.peer]

    def answered(self, peer: Peer, *names: str | None) -> None:
        """A message came that answers the intent of one of these ids."""
        for name in names:
            seq = self._by_name.get((*peer, name)) if name else None
            if seq is not None:
                self.close(seq)
