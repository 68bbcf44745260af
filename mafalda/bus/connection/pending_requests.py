"""Requests that wait for their answers, all on one inbox; answers come in the read loop, without a task or a queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import Literal

from nats.aio.msg import Msg

from mafalda.errors import PermissionDenied


class Unanswered(Exception):
    """A request got no answer. Never leaves the bus: its callers raise what it means for them."""

    def __init__(self, reason: Literal["no-responders", "connection-lost", "timeout"]) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class PendingRequest:
    """A request that was, or is about to be, sent to ``subject`` with the reply subject ``reply``."""

    subject: str
    reply: str
    answer: asyncio.Future[Msg]
    maybe_denied: PermissionDenied | None = None

    def fail(self, error: Exception) -> None:
        """Raise ``error`` in whoever awaits the answer, unless there is one already."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # retrieved, even if the requester gives up before it gets to it


class PendingRequests:
    """A ``Sink`` for one inbox; each request has a reply subject of its own below it.

    Args:
        inbox: The prefix of the reply subjects.
    """

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._pending: dict[str, PendingRequest] = {}
        self._tokens = count()

    @property
    def pattern(self) -> str:
        """What to subscribe to."""
        return f"{self._inbox}.*"

    def new(self, subject: str = "") -> PendingRequest:
        """A request which must be registered before it is sent.

        Args:
            subject: Where it is published; empty for a message to this inbox itself.
        """
        reply = f"{self._inbox}.{next(self._tokens)}"
        return PendingRequest(subject or reply, reply, asyncio.get_running_loop().create_future())

    def register(self, pending: PendingRequest) -> None:
        """Accept the answer to a request from now on, until ``unregister``."""
        self._pending[pending.reply] = pending

    def unregister(self, pending: PendingRequest) -> None:
        """Forget a request; one that was not registered changes nothing."""
        self._pending.pop(pending.reply, None)

    def deliver(self, message: Msg, pattern: str) -> None:
        pending = self._pending.get(message.subject)
        if pending and not pending.answer.done():
            pending.answer.set_result(message)

    def interrupted(self) -> None:
        for pending in self._pending.values():
            pending.fail(Unanswered("connection-lost"))

    def denied(self, error: PermissionDenied) -> None:
        self.ended(error)

    def ended(self, error: PermissionDenied) -> None:
        for pending in self._pending.values():
            pending.fail(error)

    def publish_denied(self, lowered: str) -> None:
        """The server refused a publish.

        Args:
            lowered: Its subject in lower case, as nats-py reports it. If requests to several subjects differ only in
                case, which one was refused shows when the others are answered.
        """
        suspects = [pending for pending in self._pending.values() if pending.subject.lower() == lowered]
        is_certain = len({pending.subject for pending in suspects}) == 1
        for pending in suspects:
            denied = PermissionDenied("NATS refused a publish", subject=pending.subject)
            if is_certain:
                pending.fail(denied)
            else:
                pending.maybe_denied = denied
