"""Who wants a producer on one worker, and so what has to come over the relay that feeds it.

What does not belong here: telling the source (``mirrors``).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

Wanted = Literal["flowing", "paused", "nothing"]


@dataclass(slots=True)
class Demand:
    """Consumers and onward relays of one mirrored producer, each flowing or paused. Times are monotonic seconds."""

    quiet_since: float
    empty_since: float
    flowing: set[Hashable] = field(default_factory=set)
    paused: set[Hashable] = field(default_factory=set)

    def want(self, who: Hashable, now: float, *, paused: bool) -> None:
        """Somebody is there, and takes media now or not."""
        before = self.wanted
        self.flowing.discard(who)
        self.paused.discard(who)
        (self.paused if paused else self.flowing).add(who)
        self._note(before, now)

    def drop(self, who: Hashable, now: float) -> None:
        """Somebody is gone."""
        before = self.wanted
        self.flowing.discard(who)
        self.paused.discard(who)
        self._note(before, now)

    @property
    def wanted(self) -> Wanted:
        """``flowing`` if anybody takes media, ``paused`` if all pause, ``nothing`` if nobody is left."""
        if self.flowing:
            return "flowing"
        return "paused" if self.paused else "nothing"

    def may_pause_at(self, pause_after_s: float) -> float | None:
        """When the source may be told to pause; None while somebody takes media."""
        return None if self.flowing else self.quiet_since + pause_after_s

    def may_close_at(self, unused_s: float) -> float | None:
        """When the relay may be closed; None while anybody is there."""
        return self.empty_since + unused_s if self.wanted == "nothing" else None

    def _note(self, before: Wanted, now: float) -> None:
        after = self.wanted
        if before == "flowing" != after:
            self.quiet_since = now
        if after == "nothing" != before:
            self.empty_since = now
