"""The state machine of a relay source: a producer that one of our workers sends over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mafalda.errors import NotFound

RequestedState = Literal["flowing", "paused", "closed"]
Action = Literal["pause", "resume", "close", "none"]


@dataclass(slots=True)
class RelaySourceState:
    """One relay source.

    =============== ======================================= ======= ==============================================
    state           what happens                            next    what the shell does
    =============== ======================================= ======= ==============================================
    opening         the worker consumes it on the pipe      flowing reply to all requests that wait for it
    opening         the worker refuses                      closed  reply with the error
    opening         the relay has ended meanwhile           closed  close what the worker then makes
    flowing, paused the target requests ``paused``          paused  pause the pipe's consumer
    flowing, paused the target requests ``flowing``         flowing resume the pipe's consumer
    any             the target requests ``closed``, or the  closed  close the pipe's consumer
                    relay has ended by the log, or the pipe
                    or the producer has closed
    =============== ======================================= ======= ==============================================
    """

    state: Literal["opening", "flowing", "paused", "closed"] = "opening"

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.state == "closed"

    def opened(self) -> bool:
        """The worker has made what sends it; returns whether it is still needed."""
        if self.state == "opening":
            self.state = "flowing"
        return self.state != "closed"

    def request(self, wanted: RequestedState, producer: str, *, can_pause: bool) -> Action:
        """What to do when the target requests a change.

        Args:
            wanted: What is requested.
            producer: The producer's id, for the error.
            can_pause: Whether what sends it can be paused; a direct data producer, which sends by itself, cannot.

        Raises:
            NotFound: It is not being sent, so it can neither be paused nor resumed.
        """
        if wanted == "closed":
            return "none" if self.is_closed else "close"
        if self.state in ("opening", "closed"):
            raise NotFound("this producer is not carried", producer=producer)
        if not can_pause:
            return "none"
        return "pause" if wanted == "paused" else "resume"

    def paused(self) -> None:
        """The pipe's consumer is paused."""
        if not self.is_closed:
            self.state = "paused"

    def resumed(self) -> None:
        """The pipe's consumer flows."""
        if not self.is_closed:
            self.state = "flowing"

    def close(self) -> bool:
        """End it; returns whether it had not ended before."""
        was_closed, self.state = self.is_closed, "closed"
        return not was_closed
