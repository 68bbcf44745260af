"""Whether a peer's client is still there, by its ICE connections and by its requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PeerLiveness:
    """Of one peer. Times are monotonic seconds, given by the caller; they stand still while no client can be heard."""

    active_at: float
    was_connected: bool = False
    connected: int = 0

    def note_activity(self, now: float) -> None:
        """The client has requested something."""
        self.active_at = now

    def note_connected(self, connected: int, now: float) -> None:
        """So many of its transports are connected now."""
        if connected == 0 and self.connected > 0:
            self.active_at = now
        self.connected = connected
        self.was_connected = self.was_connected or connected > 0

    def is_gone(self, now: float, *, ice_grace_s: float, idle_grace_s: float) -> bool:
        """Whether nothing is connected, and the client has been inactive for longer than the grace period in seconds.

        ``ice_grace_s`` applies to a client that was connected before, ``idle_grace_s`` to one that never was.
        """
        if self.connected:
            return False
        grace_s = ice_grace_s if self.was_connected else idle_grace_s
        return now - self.active_at > grace_s
