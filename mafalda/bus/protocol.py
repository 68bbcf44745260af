"""What every component asks of a bus; kept by NATS (``nats_bus``) and by memory (``mafalda.testing``).

Two lanes are joined here, so that no component thinks of them: the fast lane is what the stream
republishes under ``live.``, delivered at most once; the safe lane is the log itself. A follower
reads the fast one and mends every gap from the safe one, so what it yields is complete and in
log order. What does not belong here: what a message means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from mafalda.contract.messages.envelope import Message

#: Header of an intent: the inbox to which the agent sends what must not rest in the log.
REPLY_HEADER = "Mafalda-Reply-To"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came. ``seq`` is its place in the log, 0 if it is not from the log.

    ``data`` is raw: it may be poison, and each reader decides with ``mafalda.contract.messages.envelope.decode``.
    ``subject`` never carries the ``live.`` prefix.
    """

    subject: str
    data: bytes
    seq: int = 0
    reply: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expect:
    """Append only if ``last_seq`` is the last sequence of what ``filter`` matches (0: nothing yet)."""

    filter: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a message is in the log; ``duplicate`` if a message of the same id was there already."""

    seq: int
    duplicate: bool


class Follower(Protocol):
    """All log entries of a set of patterns, each once, in log order. Iterate it from one task.

    A cancelled ``anext`` loses nothing. One exception to the order, in a cluster only: an entry that a route
    between servers lost comes late, so with a smaller ``seq`` than the one before; a follower of *all* log
    subjects never sees that (``docs/decisions/0002-lanes.md``).
    """

    @property
    def seq(self) -> int:
        """The last log sequence that is known to be passed: everything up to it has been yielded."""

    async def add(self, *patterns: str) -> None:
        """Follow more patterns from now on; when this returns, nothing stored later is missed."""

    async def remove(self, *patterns: str) -> None:
        """Follow these no more."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def __anext__(self) -> Delivery: ...


class Inbox(Protocol):
    """A subject of one's own, for answers that must not rest in the log."""

    @property
    def subject(self) -> str: ...

    async def next(self, timeout_s: float) -> Delivery:
        """The next answer.

        Raises:
            DeadlineExceeded: None came in time.
        """


Handler = Callable[[Delivery], Awaitable[Message]]


class Bus(Protocol):
    """Append to the log, follow it, read it; ask and answer beside it."""

    async def append(
        self, subject: str, message: Message, *, expect: Expect | None = None, headers: Mapping[str, str] | None = None
    ) -> Appended:
        """Store a message; its id makes a repetition harmless. Retries by itself while the outcome is unknown.

        Raises:
            Conflict: ``expect`` does not hold; ``details["actual"]`` is the real last sequence.
            BusUnavailable: Not stored, as far as is known, within the bus's deadline.
            PermissionDenied: This credential may not publish there.
        """

    def follow(self, *patterns: str, after_seq: int | None = None) -> AbstractAsyncContextManager[Follower]:
        """Follow captured subjects; from just after ``after_seq`` if given, else from now on."""

    def share(self, *patterns: str, group: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Captured subjects, each entry to one member of the group, at most once, fast lane only."""

    def read(self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None) -> AsyncIterator[Delivery]:
        """Log entries in order, from just after ``after_seq`` to ``up_to_seq`` (``None``: the end as of now)."""

    async def last(self, subject: str) -> Delivery | None:
        """The last log entry on one subject (wildcards allowed)."""

    async def last_seq(self) -> int:
        """The log's last sequence, 0 if it is empty."""

    async def publish(self, subject: str, message: Message) -> None:
        """Publish outside the log (load reports, answers to inboxes). At most once."""

    def listen(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Subjects outside the log, from now on."""

    async def latest_loads(self) -> Sequence[Delivery]:
        """The last load report of each server."""

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """Ask somebody and await the answer.

        Raises:
            DeadlineExceeded: No answer in time, or nobody listens there.
            MafaldaError: The error that the other side answered (``Rejected``), as its own class.
        """

    def serve(self, *patterns: str, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Answer requests, several at once; a ``MafaldaError`` of the handler is answered as ``Rejected``.

        What is unanswered at the end is refused with ``NotFound``, so that nobody waits for nothing.
        """

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        """Open an inbox."""
