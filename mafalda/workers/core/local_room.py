"""A room of which this server has, or recently had, a peer or a relay target."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from mafalda.contract.messages.payload import Place
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.core.placed_peer import PlacedPeer

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class OrderedRelay:
    """A relay target of this server: where it comes from, and the log sequence of the command that ordered it.

    ``moving`` is the peer that owns the producer if it is being handed over: the log has removed the relay, which goes
    on until the producer is open at the new place.
    """

    source: Place
    seq: int
    moving: str | None = None


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
    handed_over: dict[str, int] = field(default_factory=dict)  # peer: generation here
    relays: dict[RelayKey, OrderedRelay] = field(default_factory=dict)

    def keep_relays(self, peer: str, producers: Collection[str]) -> None:
        """A peer is being handed over: its producers' relays go on until the producers are open at the new place."""
        for key, relay in self.relays.items():
            if key.producer in producers:
                self.relays[key] = replace(relay, moving=peer)

    def end_kept_relays(
        self, *, producer: str | None = None, peer: str | None = None, worker: str | None = None
    ) -> list[RelayKey]:
        """Remove and return the kept relays of a producer or of a peer, on all workers or on one."""
        found = [
            key
            for key, relay in self.relays.items()
            if relay.moving is not None
            and (key.producer == producer or relay.moving == peer)
            and worker in (None, key.worker)
        ]
        for key in found:
            del self.relays[key]
        return found

    @property
    def is_empty(self) -> bool:
        """Whether it has no peer and no relay target here."""
        return not self.peers and not self.handed_over and not self.relays

    def next_load_delay_s(self) -> float:
        """Count a failed load; returns how long to wait before the next one, in seconds."""
        self.load_failures += 1
        return float(min(_FIRST_DELAY_S * 2 ** min(self.load_failures - 1, 16), _LONGEST_DELAY_S))
