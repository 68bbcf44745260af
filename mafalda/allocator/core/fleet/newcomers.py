"""What a new peer costs, and what objects cost here, learnt from the log and from load reports. Pure.

The configuration gives a first guess. A room's newcomers resemble those who came to it before; without any, those of
the same kind anywhere. All costs are in millionths of a core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mafalda.allocator.config import AllocatorConfig

#: What is known of a peer before it opens anything.
PeerKind = Literal["peer", "one-transport", "audience"]

#: The guess counts as much as so many peers that were seen.
_GUESS_WEIGHT = 3.0
#: From so many on, each newcomer makes the earlier ones count less.
_MEMORY = 200.0

#: The guess that objects cost what is configured counts as much as so many reports of a worker in full use.
_SCALE_WEIGHT = 500_000.0
_SCALE_DECAY = 0.99
_SCALE_BOUNDS = (0.1, 2.0)
#: A worker that is used less than this says little: its own housekeeping is a part of it.
_LEAST_USED = 20_000


def kind_of(*, one_transport: bool, audience: bool) -> PeerKind:
    """The kind of a peer."""
    if audience:
        return "audience"
    return "one-transport" if one_transport else "peer"


@dataclass(slots=True)
class _Mean:
    count: float = 0.0
    total: float = 0.0

    def add(self, cost: float) -> None:
        if self.count >= _MEMORY:
            self.count, self.total = self.count / 2, self.total / 2
        self.count += 1
        self.total += cost

    def correct(self, difference: float) -> None:
        self.total = max(0.0, self.total + difference)

    def shrunk_to(self, guess: float) -> float:
        return (guess * _GUESS_WEIGHT + self.total) / (_GUESS_WEIGHT + self.count)


class NewcomerCosts:
    """The expected cost of everything that a new peer opens, by room and kind."""

    def __init__(self, config: AllocatorConfig) -> None:
        self._guesses: dict[PeerKind, int] = {
            "peer": config.micro(config.costs.peer),
            "one-transport": config.micro(config.costs.one_transport_peer),
            "audience": config.micro(config.costs.audience_peer),
        }
        self._kinds: dict[PeerKind, _Mean] = {kind: _Mean() for kind in self._guesses}
        self._rooms: dict[str, dict[PeerKind, _Mean]] = {}

    def expected(self, room: str, kind: PeerKind) -> int:
        """The expected cost of one more peer."""
        anywhere = self._kinds[kind].shrunk_to(self._guesses[kind])
        here = self._rooms.get(room, {}).get(kind)
        return round(here.shrunk_to(anywhere) if here else anywhere)

    def observe(self, room: str, kind: PeerKind, cost: int, *, previous: int | None) -> None:
        """Record what a new peer has opened so far.

        Args:
            room: Its room.
            kind: Its kind.
            cost: Of its objects.
            previous: What was recorded for the same peer before; ``None``: nothing.
        """
        here = self._rooms.setdefault(room, {}).setdefault(kind, _Mean())
        for mean in (self._kinds[kind], here):
            if previous is None:
                mean.add(cost)
            elif previous != cost:
                mean.correct(cost - previous)

    def forget_room(self, room: str) -> None:
        """A room has no peers any more."""
        self._rooms.pop(room, None)


class CostScale:
    """How much objects really cost here, as a multiple of their configured cost."""

    def __init__(self) -> None:
        self._measured = self._configured = 0.0

    @property
    def value(self) -> float:
        """The multiple; 1.0 while nothing is known."""
        least, most = _SCALE_BOUNDS
        learnt = (_SCALE_WEIGHT + self._measured) / (_SCALE_WEIGHT + self._configured)
        return min(most, max(least, learnt))

    def learn(self, measured: int, configured: int, unsettled: int) -> None:
        """Take in what a worker used in one report.

        Args:
            measured: Its CPU.
            configured: What its objects cost by the configuration.
            unsettled: The part of ``configured`` that may not be in ``measured`` yet.
        """
        if configured < _LEAST_USED or unsettled * 5 > configured:
            return
        self._measured = self._measured * _SCALE_DECAY + measured
        self._configured = self._configured * _SCALE_DECAY + configured
