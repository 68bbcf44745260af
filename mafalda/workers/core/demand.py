"""The users of a relayed producer on one worker, and so what has to come over its relay."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

from mafalda.workers.core.layers import ALL_LAYERS, LayerUsers

DemandLevel = Literal["flowing", "paused", "none"]


@dataclass(slots=True)
class Demand:
    """Consumers and onward relays of one relayed producer, each flowing or paused. Times are monotonic seconds."""

    quiet_since: float
    empty_since: float
    flowing: LayerUsers = field(default_factory=LayerUsers)
    paused: set[Hashable] = field(default_factory=set)

    def add(self, user: Hashable, now: float, *, paused: bool, layer: int = ALL_LAYERS) -> None:
        """Add a user, pause or resume one, or change the highest spatial layer that it takes."""
        before = self.level
        self._discard(user)
        if paused:
            self.paused.add(user)
        else:
            self.flowing.add(user, layer)
        self._update_times(before, now)

    def remove(self, user: Hashable, now: float) -> None:
        """Remove a user; an unknown one changes nothing."""
        before = self.level
        self._discard(user)
        self._update_times(before, now)

    def restart(self, now: float) -> None:
        """Begin the periods without users and without flowing users now."""
        self.quiet_since = self.empty_since = now

    @property
    def level(self) -> DemandLevel:
        """``flowing`` if any user flows, ``paused`` if all users are paused, ``none`` if there is no user."""
        if self.flowing:
            return "flowing"
        return "paused" if self.paused else "none"

    @property
    def highest_layer(self) -> int:
        """The highest spatial layer that any user takes; ``NO_LAYERS`` if none flows."""
        return self.flowing.highest

    def may_pause_at(self, pause_after_s: float) -> float | None:
        """When the source may be paused; None while any user flows."""
        return None if self.flowing else self.quiet_since + pause_after_s

    def may_close_at(self, unused_s: float) -> float | None:
        """When the relay may be closed; None while it has users."""
        return self.empty_since + unused_s if self.level == "none" else None

    def _discard(self, user: Hashable) -> None:
        self.flowing.discard(user)
        self.paused.discard(user)

    def _update_times(self, before: DemandLevel, now: float) -> None:
        after = self.level
        if before == "flowing" != after:
            self.quiet_since = now
        if after == "none" != before:
            self.empty_since = now
