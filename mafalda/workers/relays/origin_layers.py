"""Tells the clients of this server's workers which spatial layers of what they produce anybody receives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.core.layers import LayerDemand


@dataclass(slots=True, eq=False)
class _Origin:
    demand: LayerDemand
    tell: Callable[[int], None]
    timer: asyncio.TimerHandle | None = None


class OriginLayers:
    """The producers that have their origin on this server and whose clients are to be told."""

    def __init__(self) -> None:
        self._origins: dict[RelayKey, _Origin] = {}

    def watch(self, key: RelayKey, last: int, tell: Callable[[int], None]) -> Callable[[], None]:
        """Begin to watch a producer; returns what ends it.

        Args:
            key: Of the producer at its origin.
            last: The highest spatial layer that it has.
            tell: Called with the highest layer that anybody receives when that has changed; ``NO_LAYERS``: nobody
                receives the producer.
        """
        origin = _Origin(LayerDemand.new(last, _now()), tell)
        self._origins[key] = origin
        self._settle(origin)

        def end() -> None:
            if origin.timer is not None:
                origin.timer.cancel()
            if self._origins.get(key) is origin:
                del self._origins[key]

        return end

    def use(self, key: RelayKey, user: Hashable, layer: int) -> None:
        """Note the highest layer that a consumer or a relay takes of a producer, if that is watched."""
        if origin := self._origins.get(key):
            origin.demand.use(user, layer, _now())
            self._settle(origin)

    def release(self, key: RelayKey, user: Hashable) -> None:
        """Note that a consumer or a relay of a producer has ended."""
        if origin := self._origins.get(key):
            origin.demand.release(user, _now())
            self._settle(origin)

    def _settle(self, origin: _Origin) -> None:
        if origin.timer is not None:
            origin.timer.cancel()
            origin.timer = None
        if (layer := origin.demand.take(_now())) is not None:
            origin.tell(layer)
        elif (due_at := origin.demand.due_at()) is not None:
            origin.timer = asyncio.get_running_loop().call_at(due_at, self._settle, origin)


def _now() -> float:
    return asyncio.get_running_loop().time()
