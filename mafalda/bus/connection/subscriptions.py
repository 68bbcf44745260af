"""Subscriptions whose messages are delivered in nats-py's read loop, in the order of the socket.

nats-py gives each subscription a queue and a task, which changes the order between subscriptions, and drops messages
when a queue is full. Its ``subscribe`` also takes a ``future`` that is resolved in the read loop: a ``DeliveryHook`` in
its place receives *every* message there. So all subscriptions of one ``Sink`` share one order, and the sink decides how
much it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from mafalda.errors import PermissionDenied

_log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where subscriptions deliver. Called in the read loop: must neither block nor raise."""

    def deliver(self, message: Msg, pattern: str) -> None:
        """Take a message that came through the subscription with this pattern."""

    def interrupted(self) -> None:
        """The connection broke: whatever is published until it is back may be missing."""

    def denied(self, error: PermissionDenied) -> None:
        """The server refused one of this sink's subscriptions, ``subject`` in the error's details."""

    def ended(self, error: PermissionDenied) -> None:
        """The connection is over for good: nothing is delivered after this."""


@dataclass(eq=False, slots=True)
class Subscription:
    """A subscription that outlives nats-py's clients; ``native`` is that of the present client."""

    pattern: str
    sink: Sink
    queue: str = ""
    native: NatsSubscription | None = None


class DeliveryHook:
    """Stands where nats-py expects the future of a single answer."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Subscription) -> None:
        self._owner = owner

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self._owner.sink.deliver(message, self._owner.pattern)
        except Exception:  # an error here would close the whole connection
            _log.exception("sink-failed", action="sink_failed", subject=message.subject)
