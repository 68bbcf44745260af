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
    """Consumers and onward relays of one mirrored producer, each flowing or paused."""

    flowing: set[Hashable] = field(default_factory=set)
    paused: set[Hashable] = field(default_factory=set)

    def want(self, who: Hashable, *, paused: bool) -> None:
        """Somebody is there, and takes media now or not."""
        self.drop(who)
        (self.paused if paused else self.flowing).add(who)

    def drop(self, who: Hashable) -> None:
        """Somebody is gone."""
        self.flowing.discard(who)
        self.paused.discard(who)

    @property
    def wanted(self) -> Wanted:
        """``flowing`` if anybody takes media, ``paused`` if all pause, ``nothing`` if nobody is left."""
        if self.flowing:
            return "flowing"
        return "paused" if self.paused else "nothing"
