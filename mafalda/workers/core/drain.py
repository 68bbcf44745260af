"""The state machine of a server's drain. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.messages.queries import DrainPhase


@dataclass(frozen=True, slots=True)
class AnnounceDrain:
    """Append ``ServerDraining`` with these values."""

    draining: bool
    deadline_s: float | None = None
    force: bool = False


class Drain:
    """One server's drain. Times are seconds, monotonic; each method returns what is to be announced, or ``None``.

    ======== ================================= ======== ==================================
    state    what happens                      next     announced
    ======== ================================= ======== ==================================
    up       a drain is requested              draining draining, with the deadline
    draining it is requested again             draining draining; the new deadline counts
    draining no peer is left                   drained  none
    draining the deadline passes               forcing  draining, forced
    forcing  no peer is left                   drained  none
    drained  a placement that was under way    draining none; ``forcing`` if the deadline
             brings a peer                              has passed
    any      the drain is cancelled            up       not draining; none if it is ``up``
    ======== ================================= ======== ==================================
    """

    def __init__(self) -> None:
        self.state: DrainPhase = "up"
        self._deadline_at: float | None = None
        self._is_forced = False

    def request(self, deadline_s: float | None, now: float) -> AnnounceDrain:
        """Drain from now on. ``deadline_s`` seconds from now what is left is moved by force; ``None``: never."""
        self.state, self._is_forced = "draining", False
        self._deadline_at = None if deadline_s is None else now + deadline_s
        return AnnounceDrain(True, deadline_s)

    def cancel(self) -> AnnounceDrain | None:
        """Drain no more."""
        if self.state == "up":
            return None
        self.state, self._deadline_at, self._is_forced = "up", None, False
        return AnnounceDrain(False)

    def advance(self, peers: int, now: float) -> AnnounceDrain | None:
        """Time has passed, or peers have come or gone.

        Args:
            peers: How many are placed here, or still served here after they were moved.
            now: Seconds.
        """
        if self.state == "up":
            return None
        if peers == 0:
            self.state = "drained"
            return None
        if not self._is_forced and self._deadline_at is not None and now >= self._deadline_at:
            self.state, self._is_forced = "forcing", True
            return AnnounceDrain(True, 0.0, force=True)
        self.state = "forcing" if self._is_forced else "draining"
        return None

    def deadline_in_s(self, now: float) -> float | None:
        """Seconds until what is left is moved by force; ``None``: never."""
        return None if self._deadline_at is None else max(0.0, self._deadline_at - now)
