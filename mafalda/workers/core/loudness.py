"""Which producers of a room are the loudest. Pure.

Speech has gaps, and two people are loud at once: without hysteresis the loudest would change with every syllable.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

#: Below this a producer is silent, in dBov.
SILENT_DBOV = -60
#: The level of a producer of which nothing is heard, in dBov.
NOTHING_DBOV = -127
#: How much of a rise, and of a fall, one measurement counts: people are to be heard at once, and pauses to be bridged.
_RISE, _FALL = 0.8, 0.1
#: Workers report silence once. From then on a level falls as if it was measured at this interval, in seconds.
_SILENCE_INTERVAL_S = 0.3
#: Who takes another's place must be louder by so many dB, and the other has had it for so many seconds.
MARGIN_DB, HOLD_S = 6.0, 1.5


@dataclass(slots=True)
class _Loudest:
    """The loudest so many; each since when it is among them."""

    since_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class RoomLoudness:
    """The smoothed level of each producer of a room, and the loudest of them by how many are wanted."""

    _levels: dict[str, float] = field(default_factory=dict)
    _silent: dict[str, float] = field(default_factory=dict)  # of which nothing was heard: when its level fell last
    _loudest: dict[int, _Loudest] = field(default_factory=dict)

    def loudest(self, count: int) -> frozenset[str]:
        """The loudest producers, at most ``count``; fewer while fewer have been heard."""
        return frozenset(self._loudest.setdefault(count, _Loudest()).since_s)

    def speaking(self, count: int, now: float) -> list[str]:
        """The loudest that are heard at this time: the dominant one first, then by level; at most ``count``.

        Args:
            count: How many at most.
            now: Seconds, monotonic.
        """
        self._fall(now, ())
        dominant = self.loudest(1)
        heard = (it for it in self.loudest(count) | dominant if self._levels.get(it, NOTHING_DBOV) > SILENT_DBOV)
        return sorted(heard, key=lambda it: (it not in dominant, -self._levels[it], it))[:count]

    def measure(self, levels: Mapping[str, int], now: float) -> None:
        """Take a measurement of some producers.

        Args:
            levels: dBov (-127 to 0) of each producer that was measured; -127: nothing was heard of it.
            now: Seconds, monotonic.
        """
        self._fall(now, levels)
        for producer, level in levels.items():
            before = self._levels.get(producer, float(NOTHING_DBOV))
            weight = _RISE if level > before else _FALL
            self._levels[producer] = before + (level - before) * weight
            if level <= NOTHING_DBOV:
                self._silent[producer] = now
            else:
                self._silent.pop(producer, None)
        self._update(now)

    def retain(self, producers: Container[str]) -> None:
        """Forget the producers that the room does not have any more."""
        for producer in [it for it in self._levels if it not in producers]:
            del self._levels[producer]
            self._silent.pop(producer, None)
            for loudest in self._loudest.values():
                loudest.since_s.pop(producer, None)

    def _fall(self, now: float, measured: Container[str]) -> None:
        """Lower the levels of those that are silent and are not measured now, by the time since they fell last."""
        for producer, fell_s in self._silent.items():
            if producer not in measured:
                left = (1 - _FALL) ** ((now - fell_s) / _SILENCE_INTERVAL_S)
                self._levels[producer] = NOTHING_DBOV + (self._levels[producer] - NOTHING_DBOV) * left
                self._silent[producer] = now

    def _update(self, now: float) -> None:
        ranked = sorted(
            (producer for producer, level in self._levels.items() if level > SILENT_DBOV),
            key=lambda producer: (-self._levels[producer], producer),
        )
        for count, loudest in self._loudest.items():
            self._update_one(loudest, ranked[:count], count, now)

    def _update_one(self, loudest: _Loudest, candidates: list[str], count: int, now: float) -> None:
        for candidate in candidates:
            if candidate in loudest.since_s:
                continue
            if len(loudest.since_s) >= count:
                weakest = min(
                    loudest.since_s, key=lambda producer: (self._levels.get(producer, NOTHING_DBOV), producer)
                )
                louder_by = self._levels[candidate] - self._levels.get(weakest, NOTHING_DBOV)
                if louder_by < MARGIN_DB or now - loudest.since_s[weakest] < HOLD_S:
                    continue
                del loudest.since_s[weakest]
            loudest.since_s[candidate] = now
