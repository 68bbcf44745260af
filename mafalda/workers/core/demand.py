"""The users of a relayed producer on one worker, and so what has to come over its relay."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

DemandLevel = Literal["flowing", "paused", "none"]


@dataclass(slots=True)
class Demand:
    """Consumers and onward relays of one relayed producer, each flowing or paused. Times are monotonic seconds."""

    quiet_since: float
    empty_since: float
    flowing: set[Hashable] = field(default_factory=set)
    paused: set[Hashable] = field(default_factory=set)

    def add(self, user: Hashable, now: float, *, paused: bool) -> None:
        """Add a user, or pause or resume one."""
        before = self.level
        self._discard(user)
        (self.paused if paused else self.flowing).add(user)
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
