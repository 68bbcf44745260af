"""The state of a session's placement: where its peer is, and what has to be requested again at its next place. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from mafalda.contract.messages.results import JoinResult

H = TypeVar("H")
R = TypeVar("R", bound=Hashable)


class PlacementState(StrEnum):
    """See ``SessionPlacement``."""

    JOINING = "joining"
    PLACED = "placed"
    LOST = "lost"
    MOVED = "moved"
    LEAVING = "leaving"
    LEFT = "left"


class InFlight(NamedTuple):
    """A request without an answer."""

    is_repeated: bool  # it is sent again at the next place if this one is lost
    generation: int  # of the place that it was sent to


class InterruptedRequests(NamedTuple, Generic[R]):
    """The requests that were in flight when a place was lost, in the order in which they were sent."""

    repeated: list[R]
    failed: list[R]


class SessionPlacement(Generic[H, R]):
    """One peer's membership of a room, from its join until it has left.

    | state | the peer | next states |
    | --- | --- | --- |
    | ``joining`` | has requested its first place | ``placed``, ``left`` (refused) |
    | ``placed`` | has a place, and everything that it holds is there | ``lost``, ``moved``, ``leaving`` |
    | ``lost`` | has lost its place, or its resources there | ``moved``, ``leaving`` |
    | ``moved`` | has a place; what it holds is being requested there again | ``placed``, ``lost``, ``leaving`` |
    | ``leaving`` | has requested to leave; a place that it gets now has to be left too | ``left`` |
    | ``left`` | is no peer of the room | |

    Each place has a ``generation``, which grows from place to place. What concerns an older generation changes nothing.
    ``H`` is what the session holds: resources that exist at every place. ``R`` is a request in flight.
    """

    def __init__(self) -> None:
        self.state = PlacementState.JOINING
        self.placement: JoinResult | None = None
        #: The lowest generation whose place is of use.
        self.required_generation = 1
        #: What is requested again at each place, by a key of the owner's, in this order.
        self.held: dict[Hashable, H] = {}
        self._in_flight: dict[R, InFlight] = {}
        self._interrupted: list[R] = []

    # --- the place ------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Of the last place; 0 while there was none."""
        return self.placement.generation if self.placement else 0

    @property
    def target(self) -> JoinResult | None:
        """The place where the peer should be now, as far as that is known."""
        return self.placement if self.generation >= self.required_generation else None

    @property
    def is_lost(self) -> bool:
        """Whether a request cannot be sent now: there is no place, or what is held is not there again."""
        if self.state is PlacementState.LEAVING:
            return self.placement is not None and self.target is None
        return self.state in (PlacementState.LOST, PlacementState.MOVED, PlacementState.LEFT)

    @property
    def is_ending(self) -> bool:
        """Whether the peer leaves or has left."""
        return self.state in (PlacementState.LEAVING, PlacementState.LEFT)

    def place(self, placement: JoinResult) -> bool:
        """The peer has got a place. Returns whether it is a new one."""
        if self.state is PlacementState.LEFT or placement.generation <= self.generation:
            return False
        was_joining = self.state is PlacementState.JOINING
        self.placement = placement
        self.required_generation = max(self.required_generation, placement.generation)
        if not self.is_ending:
            if self.target is None:
                self.state = PlacementState.LOST
            else:
                self.state = PlacementState.PLACED if was_joining else PlacementState.MOVED
        return True

    def lose(self, next_generation: int) -> InterruptedRequests[R]:
        """The place is gone, or the peer's resources there.

        Args:
            next_generation: The lowest generation of a place that is of use from now on. The present one if the
                place itself is still the peer's.

        Returns:
            The requests that were in flight. Those that are repeated wait for ``next_interrupted``.
        """
        self.required_generation = max(self.required_generation, next_generation)
        if self.state in (PlacementState.PLACED, PlacementState.MOVED):
            self.state = PlacementState.LOST
        repeated = [request for request, sent in self._in_flight.items() if sent.is_repeated]
        failed = [request for request, sent in self._in_flight.items() if not sent.is_repeated]
        self._in_flight.clear()
        self._interrupted += repeated
        return InterruptedRequests(repeated, failed)

    def reopen(self) -> None:
        """What is held is being requested at the target."""
        if self.state is PlacementState.LOST and self.target is not None:
            self.state = PlacementState.MOVED

    def reopened(self) -> bool:
        """Everything was requested at the target. Returns whether the peer still has that place."""
        if self.state is PlacementState.MOVED:
            self.state = PlacementState.PLACED
        return self.state is PlacementState.PLACED

    def leave(self) -> None:
        """The peer requests to leave."""
        if self.state is not PlacementState.LEFT:
            self.state = PlacementState.LEAVING

    def end(self) -> None:
        """The peer has left, or was never placed."""
        self.state = PlacementState.LEFT

    # --- requests in flight ---------------------------------------------------------------------------

    @property
    def has_requests(self) -> bool:
        """Whether a request is in flight. Interrupted ones are not."""
        return bool(self._in_flight)

    def send(self, request: R, *, is_repeated: bool) -> None:
        """A request is sent to the present place."""
        self._in_flight[request] = InFlight(is_repeated, self.generation)

    def answer(self, request: R) -> InFlight | None:
        """A request is answered; ``None`` if it was not in flight any more, so that this answer does not count."""
        return self._in_flight.pop(request, None)

    def interrupt(self, request: R, sent: InFlight) -> bool:
        """The answer was that the worker is gone: repeat the request. Returns whether the next place is known."""
        self._interrupted.append(request)
        return self.generation > sent.generation

    def next_interrupted(self) -> R | None:
        """Take the first request that has to be sent again, if there is one."""
        return self._interrupted.pop(0) if self._interrupted else None

    def withdraw(self, request: R) -> bool:
        """Do not send an interrupted request again. Returns whether it was still to be sent."""
        if request not in self._interrupted:
            return False
        self._interrupted.remove(request)
        return True
