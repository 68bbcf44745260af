"""Whether a peer's client is still there, judged by its transports and by what it asks for.

What does not belong here: watching ICE (``peers``), the clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Liveness:
    """Of one peer. Times are monotonic seconds, given by the caller."""

    heard_at: float
    was_connected: bool = False
    connected: int = 0

    def hear(self, now: float) -> None:
        """The client asked for something."""
        self.heard_at = now

    def connectedness(self, connected: int, now: float) -> None:
        """So many of its transports are connected now."""
        if connected == 0 and self.connected > 0:
            self.heard_at = now
        self.connected = connected
        self.was_connected = self.was_connected or connected > 0

    def is_gone(self, now: float, *, ice_grace_s: float, idle_grace_s: float) -> bool:
        """Nothing is connected, and it was silent for longer than the grace period that applies."""
        if self.connected:
            return False
        grace_s = ice_grace_s if self.was_connected else idle_grace_s
        return now - self.heard_at > grace_s
