"""The interface of the bus, implemented on NATS (``mafalda.bus.nats``) and in memory (``mafalda.testing.memory_bus``).

The stream republishes each stored entry under ``live.``, delivered at most once. A follower reads these republished
entries, and the log itself wherever one of them may be missing, so what it yields is complete and in log order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol

from mafalda.aio.clock import PausableClock
from mafalda.contract.grants import Grants
from mafalda.contract.messages.envelope import Message

#: Header of an intent: the inbox to which the agent sends what must not be stored in the log.
REPLY_HEADER = "Mafalda-Reply-To"
#: Header of an intent: the generation of the only place that it is meant for; without it, of whichever is present.
GENERATION_HEADER = "Mafalda-Generation"
#: Header of every stored message: its id, by which NATS stores it once.
MESSAGE_ID = "Nats-Msg-Id"

#: What an operator has to do when the log refuses appends.
MAKE_ROOM = (
    "raise max_bytes of the stream MAFALDA_LOG (nats stream edit MAFALDA_LOG --max-bytes=...), or the limit of its "
    "account, or free disk space on the NATS servers"
)
#: The reason of ``LogFull``.
LOG_FULL = f"the log is full and stores nothing new: {MAKE_ROOM}"

#: A log with less room than this is reported as full: larger entries are refused already.
_LEAST_ROOM_BYTES = 64 * 1024


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Delivery(NamedTuple):  # made for each message: a frozen dataclass takes four times as long to make
    """A received message. ``seq`` is its sequence in the log, 0 if it is not from the log.

    ``data`` is raw and may be anything: read it with ``mafalda.contract.reading``. ``subject`` is without the prefix
    ``live.``.
    """

    subject: str
    data: bytes
    seq: int = 0
    reply: str | None = None
    headers: Mapping[str, str] = _NO_HEADERS


@dataclass(frozen=True, slots=True)
class Expect:
    """Append only if ``last_seq`` is the last sequence on the subjects that ``filter`` matches (0: none yet)."""

    filter: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The sequence of a stored message; ``duplicate`` if a message of the same id was stored before."""

    seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class LogUsage:
    """What the log holds, and the limits of its stream; ``None``: no limit.

    ``first_seq`` is that of its first entry, or of the next one if it holds none. ``as_of`` is the time of these
    figures by NATS' clock, if that is known.
    """

    entries: int
    bytes: int
    limit_entries: int | None = None
    limit_bytes: int | None = None
    first_seq: int = 1
    last_seq: int = 0
    as_of: datetime | None = None

    @property
    def is_full(self) -> bool:
        """Whether the limits leave so little room that appends are refused, or soon will be."""
        no_bytes = self.limit_bytes is not None and self.limit_bytes - self.bytes < _LEAST_ROOM_BYTES
        return no_bytes or (self.limit_entries is not None and self.entries >= self.limit_entries)


class Follower(Protocol):
    """All log entries of a set of patterns, each once, in log order. Iterate it from one task.

    A cancelled ``anext`` loses nothing. It raises ``LogTruncated`` if the log's retention has discarded entries that it
    did not yield, because it was out of reach for so long. One exception to the order, in a cluster only: an entry that
    a route between servers lost comes late, so with a smaller ``seq`` than the one before; a follower of *all* log
    subjects never sees that (``docs/decisions/0002-following-the-log.md``).
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
    """A subject of one subscriber, for replies that must not be stored."""

    @property
    def subject(self) -> str: ...

    async def next(self, timeout_s: float) -> Delivery:
        """Return the next message.

        Raises:
            DeadlineExceeded: None came in time.
        """


@dataclass(frozen=True, slots=True)
class SnapshotObject:
    """A named object in the snapshot stream; each write gives it a greater version."""

    name: str
    data: bytes
    version: int


class Snapshots(Protocol):
    """Named objects beside the log, the last version of each. A name is one or more NATS tokens with dots between."""

    async def put(self, name: str, data: bytes, *, last_version: int | None = None) -> int:
        """Write an object and return its version.

        Args:
            name: The object's.
            data: At most what one NATS message holds.
            last_version: Write only if this is the last version (0: there is none).

        Raises:
            Conflict: ``last_version`` does not hold.
            BusUnavailable: Not stored, as far as is known.
        """

    async def get(self, name: str) -> SnapshotObject | None:
        """The last version of an object, from the stream's leader."""

    async def names(self) -> list[str]:
        """The names of all objects."""

    async def delete(self, name: str) -> None:
        """Remove an object."""


#: Returns the reply to a request; ``None``: somebody else replies.
Handler = Callable[[Delivery], Awaitable[Message | None]]


class PeerBus(Protocol):
    """What a peer's client uses: every ``Bus`` has it, and ``mafalda.bus.participant`` has it with a token alone."""

    @property
    def clock(self) -> PausableClock:
        """Stands still while the bus is not connected, and while an append is repeated because nobody confirms it.

        For deadlines of what comes over the bus, and for whoever judges others by what comes from them.
        """

    async def append(self, subject: str, message: Message, *, headers: Mapping[str, str] | None = None) -> Appended:
        """See ``Bus.append``."""

    def follow(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """All log entries of these patterns from now on, each once, in log order; see ``Follower``."""

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """See ``Bus.request``."""

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        """See ``Bus.inbox``."""


class Bus(PeerBus, Protocol):
    """Append to the log, follow it, read it; publish, request and serve outside of it."""

    async def append(
        self, subject: str, message: Message, *, expect: Expect | None = None, headers: Mapping[str, str] | None = None
    ) -> Appended:
        """Store a message; its id makes a repetition harmless. Repeats by itself while the outcome is unknown.

        Raises:
            Conflict: ``expect`` does not hold; ``details["actual"]`` is the real last sequence.
            BusUnavailable: Not stored, as far as is known, within the bus's deadline.
            LogFull: Refused, at once: the log has no room.
            PermissionDenied: This credential may not publish there.
        """

    def follow(self, *patterns: str, after_seq: int | None = None) -> AbstractAsyncContextManager[Follower]:
        """Follow log subjects, from just after ``after_seq`` if given (0: the log's beginning), else from now on."""

    def share(self, *patterns: str, group: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Receive new log entries, each in one member of the group, at most once."""

    def read(self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None) -> AsyncGenerator[Delivery, None]:
        """Log entries in order, from just after ``after_seq`` to ``up_to_seq`` (``None``: the end as of now).

        What the log's retention has discarded is not among them: ``log_usage`` tells where the log begins.

        Raises:
            BusUnavailable: The log could not be read to that end; what was yielded is complete as far as it goes.
        """

    async def last(self, subject: str) -> Delivery | None:
        """The last log entry on one subject (wildcards allowed)."""

    async def last_seq(self) -> int:
        """The log's last sequence, 0 if it is empty."""

    async def log_usage(self) -> LogUsage:
        """How much the log holds and may hold."""

    async def stored_at(self, seq: int) -> datetime:
        """When the first entry at or after a sequence was stored, by NATS' clock.

        Raises:
            NotFound: There is none.
        """

    async def purge_log(self, *, before_seq: int) -> None:
        """Discard all log entries before a sequence. Only for who knows that snapshots cover them."""

    @property
    def snapshots(self) -> Snapshots:
        """Objects that are kept beside the log."""

    async def grants(self, room: str, peer: str) -> Grants | None:
        """What the auth service granted a peer last; ``None``: it is no participant with a token, or the fleet is open.

        Raises:
            BusUnavailable: It cannot be known now.
            NotGranted: It was stored by a newer version, which may restrict what this one does not know.
        """

    async def publish(self, subject: str, message: Message) -> None:
        """Publish outside the log (load reports, replies to inboxes). At most once."""

    def listen(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Subscribe to subjects outside the log, from now on."""

    async def latest_loads(self) -> Sequence[Delivery]:
        """The last stored load report of each server; one that was published just now may not be stored yet."""

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        """Publish a request and await its reply.

        Raises:
            DeadlineExceeded: No reply in time, or nobody serves this subject.
            MafaldaError: The error that the other side replied with (``Rejected``), as its own class.
        """

    def serve(self, *patterns: str, handler: Handler, group: str = "") -> AbstractAsyncContextManager[None]:
        """Reply to requests, several at once; a ``MafaldaError`` of the handler becomes the reply ``Rejected``.

        With a ``group``, each request comes to one member of it. At the end every request without a reply is refused
        with ``NotFound``, so that no requester waits in vain.
        """

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        """Open an inbox for as long as the block runs."""
