"""How messages leave nats-py: in the read loop, in the order of the socket.

nats-py gives each subscription a queue and a task of its own, which would reorder what several subscriptions
receive, and drops messages when a queue is full. It also takes a ``future`` that is resolved in the read loop; a
``Tap`` in its place gets *every* message there: so all subscriptions of one ``Sink`` share one order, and the sink
decides what it can hold. What does not belong here: the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mafalda.errors import PermissionDenied

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where subscriptions deliver. Called in the read loop: must neither block nor raise."""

    def deliver(self, message: Msg, pattern: str) -> None: ...

    def interrupted(self) -> None:
        """The connection broke: whatever was published until it is back may be missing."""

    def denied(self, error: PermissionDenied) -> None:
        """The server refused one of this sink's subscriptions."""


@dataclass(eq=False, slots=True)
class Tapped:
    """One subscription; ``native`` is nats-py's, another one after a rebuild."""

    pattern: str
    sink: Sink
    queue: str = ""
    native: Subscription | None = None


class Tap:
    """Stands where nats-py expects the future of a single answer."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Tapped) -> None:
        self._owner = owner

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self._owner.sink.deliver(message, self._owner.pattern)
        except Exception:  # an error here would tear down the connection of everybody
            _log.exception("sink-failed", action="sink-failed", subject=message.subject)
