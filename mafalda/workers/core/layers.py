"""The highest spatial layer of a video producer that anybody receives, so that its client need not send the others."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

#: Above any layer that a producer has.
ALL_LAYERS = 15
#: Nobody receives the producer.
NO_LAYERS = -1
#: How long nobody must have received a layer before the client is told, in seconds; that somebody does, it is at once.
REDUCE_AFTER_S = 2.0


class LayerUsers:
    """The highest layer that each user takes, and of all: to find it costs the same however many users there are."""

    def __init__(self) -> None:
        self._layers: dict[Hashable, int] = {}
        self._counts = [0] * (ALL_LAYERS + 1)  # users by layer; those that are paused are not counted

    def __bool__(self) -> bool:
        return bool(self._layers)

    @property
    def highest(self) -> int:
        """The highest layer that anybody takes; ``NO_LAYERS`` if nobody takes any."""
        return next((layer for layer in range(ALL_LAYERS, NO_LAYERS, -1) if self._counts[layer]), NO_LAYERS)

    def add(self, user: Hashable, layer: int) -> None:
        """Add a user, or change the highest layer that it takes; ``NO_LAYERS``: it is paused."""
        self.discard(user)
        self._layers[user] = layer
        if layer != NO_LAYERS:
            self._counts[layer] += 1

    def discard(self, user: Hashable) -> None:
        """Remove a user; an unknown one changes nothing."""
        layer = self._layers.pop(user, NO_LAYERS)
        if layer != NO_LAYERS:
            self._counts[layer] -= 1


@dataclass(slots=True)
class LayerDemand:
    """Who receives which layers of a producer at its origin. Times are monotonic seconds, given by the caller.

    ================================ =================================================
    what happens                     what the client is told
    ================================ =================================================
    a user wants a layer above those ``highest``, at once
    the highest layer that anybody   ``highest``, once that has lasted for
    wants is below those             ``REDUCE_AFTER_S``
    ================================ =================================================

    Args:
        last: The highest layer that the producer has.
        told: What the client has been told last; it begins with all layers.
        lower_since: Since when nobody has taken the highest layer that the client was told.
        users: The consumers and relays.
    """

    last: int
    told: int
    lower_since: float
    users: LayerUsers = field(default_factory=LayerUsers)

    @classmethod
    def new(cls, last: int, now: float) -> LayerDemand:
        """The demand for a producer that was just opened, with its layers from 0 to ``last``."""
        return cls(last, last, now)

    @property
    def highest(self) -> int:
        """The highest layer that anybody takes."""
        return min(self.last, self.users.highest)

    def use(self, user: Hashable, layer: int, now: float) -> None:
        """Add a user, or change the highest layer that it takes; ``NO_LAYERS``: it is paused."""
        was_lower = self.highest < self.told
        self.users.add(user, layer)
        self._note(was_lower, now)

    def release(self, user: Hashable, now: float) -> None:
        """Remove a user; an unknown one changes nothing."""
        was_lower = self.highest < self.told
        self.users.discard(user)
        self._note(was_lower, now)

    def due_at(self) -> float | None:
        """When ``take`` has something to tell; None: never, unless something changes."""
        if self.highest == self.told:
            return None
        return self.lower_since + REDUCE_AFTER_S if self.highest < self.told else self.lower_since

    def take(self, now: float) -> int | None:
        """The highest layer that the client is to be told of now; None: nothing is due."""
        due_at = self.due_at()
        if due_at is None or due_at > now:
            return None
        self.told = self.highest
        return self.told

    def _note(self, was_lower: bool, now: float) -> None:
        if self.highest < self.told and not was_lower:
            self.lower_since = now
