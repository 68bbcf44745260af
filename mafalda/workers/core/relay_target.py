"""The state machine of a relay target: a producer of another worker, produced again on one of ours."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from mafalda.contract.messages.events import ClosedReason
from mafalda.errors import MafaldaError, NotFound
from mafalda.workers.core.demand import Demand
from mafalda.workers.core.layers import ALL_LAYERS

#: After a step failed, how long until it is tried again, unless something changes before; in seconds.
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class SetProducer:
    """Pause or resume the producer on our worker."""

    paused: bool


@dataclass(frozen=True, slots=True)
class SetSource:
    """Request the source to pause or resume what it sends; ``layer``: the highest spatial layer that is needed."""

    paused: bool
    layer: int = ALL_LAYERS


@dataclass(frozen=True, slots=True)
class CarryAgain:
    """Request the source to send the producer, which it no longer does."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Close the relay on both ends: it has had no user for long enough."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a change, at most until a time (monotonic seconds; None: without limit)."""

    until: float | None


Effect = SetProducer | SetSource | CarryAgain
Step = Effect | Retire | Wait


@dataclass(slots=True)
class RelayTargetState:
    """One relay target. Times are monotonic seconds, given by the caller.

    ============= ================================================ ======= ===========================================
    state         what happens                                     next    what the shell does
    ============= ================================================ ======= ===========================================
    opening       it is produced, and RelayOpened is appended      open    let the consumes that wait for it go on
    opening       that fails, or takes too long                    closing close the source, release all it holds,
                                                                           append RelayFailed
    opening, open the log removes its producer or its source       closing release all it holds
    open          no user for ``unused_s``                         closing close the source, release all it holds,
                                                                           append RelayClosed
    closing       all it holds is released                         closed
    ============= ================================================ ======= ===========================================

    While it is open, ``source`` is what the source sends:

    ======= ============================================ ======= ==================================================
    source  what happens                                 next    step
    ======= ============================================ ======= ==================================================
    flowing no user flows for ``pause_after_s``          paused  SetSource(paused=True)
    paused  a user flows                                 flowing SetSource(paused=False)
    flowing the highest layer that a user takes changes  flowing SetSource(paused=False)
    any     the source does not have the relay           lost    CarryAgain
    lost    the source sends it again                    unknown SetSource, as the users need it
    ======= ============================================ ======= ==================================================

    A step that fails is tried again after ``RETRY_AFTER_S``, or as soon as something changes. Data is never paused:
    what is not sent is lost.

    Args:
        data: Whether it is a data producer.
        pause_after_s: How long no user must flow before the source is paused.
        unused_s: How long it must have no user before it is closed.
        demand: Its users.
    """

    data: bool
    pause_after_s: float
    unused_s: float
    demand: Demand
    state: Literal["opening", "open", "closing", "closed"] = "opening"
    source: Literal["flowing", "paused", "lost", "unknown"] = "flowing"
    reason: ClosedReason = "producer-closed"
    _source_layer: int = ALL_LAYERS  # what the source was requested last
    _retry_at: float | None = None

    @classmethod
    def new(cls, *, data: bool, pause_after_s: float, unused_s: float, now: float) -> RelayTargetState:
        """A relay target that is being opened."""
        return cls(data, pause_after_s, unused_s, Demand(quiet_since=now, empty_since=now))

    # --- what happens to it -------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """It is produced and announced."""
        if self.state == "opening":
            self.state = "open"
            self.demand.restart(now)

    def failed(self) -> None:
        """It could not be opened."""
        self.state = "closing"

    def close(self, reason: ClosedReason) -> None:
        """The log has removed its producer, or its source."""
        self.state, self.reason = "closing", reason

    def released(self) -> None:
        """It holds nothing any more."""
        self.state = "closed"

    def add_user(self, user: Hashable, now: float, *, paused: bool, layer: int = ALL_LAYERS) -> None:
        """Add a consumer or an onward relay, pause or resume one, or change the highest spatial layer that it takes.

        Raises:
            NotFound: It is not open.
        """
        if self.state != "open":
            raise NotFound("the relay is closing")
        self.demand.add(user, now, paused=paused, layer=layer)
        self.changed()

    def remove_user(self, user: Hashable, now: float) -> None:
        """Remove a consumer or an onward relay."""
        self.demand.remove(user, now)
        self.changed()

    def changed(self) -> None:
        """Something that it depends on has changed: what failed may work now."""
        self._retry_at = None

    # --- what to do ---------------------------------------------------------------------------------

    def advance(self, now: float, *, producer_paused: bool, origin_paused: bool | None) -> Step:
        """The next step of an open relay target.

        Args:
            now: The time.
            producer_paused: Whether the producer on our worker is paused.
            origin_paused: Whether the origin is paused by the log; None if the log does not have it.
        """
        close_at = self.demand.may_close_at(self.unused_s)
        if close_at is not None and close_at <= now:
            self.state = "closing"
            return Retire()
        if self._retry_at is None or self._retry_at <= now:
            if origin_paused is not None and producer_paused != origin_paused:
                return SetProducer(origin_paused)
            if step := self._source_step(now):
                return step
        due = [close_at, self._pause_at() if self._retry_at is None else self._retry_at]
        return Wait(min((at for at in due if at is not None), default=None))

    def done(self, step: Effect) -> None:
        """A step has succeeded."""
        self._retry_at = None
        match step:
            case SetSource(paused, layer):
                self.source = "paused" if paused else "flowing"
                self._source_layer = layer
            case CarryAgain():
                self.source = "unknown"

    def step_failed(self, step: Effect, error: MafaldaError, now: float) -> None:
        """A step has failed."""
        is_lost = isinstance(step, SetSource) and isinstance(error, NotFound)
        was_carried_again = self.source == "unknown"
        if is_lost:
            self.source = "lost"
        if not is_lost or was_carried_again:
            self._retry_at = now + RETRY_AFTER_S

    def _source_step(self, now: float) -> SetSource | CarryAgain | None:
        if self.data:
            return None
        if self.source == "lost":
            return CarryAgain()
        if self.demand.level == "flowing":
            layer = self.demand.highest_layer
            is_settled = self.source == "flowing" and self._source_layer == layer
            return None if is_settled else SetSource(paused=False, layer=layer)
        pause_at = self._pause_at()
        return SetSource(paused=True) if pause_at is not None and pause_at <= now else None

    def _pause_at(self) -> float | None:
        """When the source is paused; not at once, since consumers that start paused are resumed soon as a rule."""
        if self.data or self.source == "paused":
            return None
        return self.demand.may_pause_at(self.pause_after_s)
