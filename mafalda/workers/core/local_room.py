"""A room of which this server has, or recently had, a peer or a relay target."""

from __future__ import annotations

from dataclasses import dataclass, field

from mafalda.contract.messages.payload import Place
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.core.placed_peer import PlacedPeer

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class OrderedRelay:
    """A relay target of this server: where it comes from, and the log sequence of the command that ordered it."""

    source: Place
    seq: int


@dataclass(slots=True)
class LocalRoom:
    """What of a room is here, and up to which log sequence its past was read.

    ``backlog`` holds the entries that arrive while the past is being read, and is None afterwards. ``acted`` are the
    sequences of commands that were executed from the past, should the subscription deliver them as well.
    """

    loaded_seq: int = 0
    acted: set[int] = field(default_factory=set)
    backlog: list[Entry] | None = field(default_factory=list)
    load_failures: int = 0
    peers: dict[str, PlacedPeer] = field(default_factory=dict)
    relays: dict[RelayKey, OrderedRelay] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether it has no peer and no relay target here."""
        return not self.peers and not self.relays

    def next_load_delay_s(self) -> float:
        """Count a failed load; returns how long to wait before the next one, in seconds."""
        self.load_failures += 1
        return float(min(_FIRST_DELAY_S * 2 ** min(self.load_failures - 1, 16), _LONGEST_DELAY_S))
