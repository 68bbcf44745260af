"""Follow the log: a republished subscription as long as it is complete, and the log itself wherever it may not be.

When each is read: ``docs/decisions/0002-following-the-log.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from nats.aio.msg import Msg

from mafalda.aio.tasks import cancel_and_wait
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.subscription_buffer import BufferedMessage, Gap, SubscriptionBuffer, to_delivery
from mafalda.bus.connection.subscriptions import Subscription
from mafalda.bus.log.coverage import Coverage, Verdict
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.log.read import bounds, last_seq, read_log
from mafalda.bus.protocol import MESSAGE_ID, Delivery
from mafalda.contract.subjects import LIVE, live
from mafalda.errors import BusUnavailable, LogTruncated, PermissionDenied

_log = structlog.get_logger(__name__)

#: Entries yielded from the republished subscription before the log is audited, even if the timer is not due.
_MAX_UNVERIFIED = 65536
_RETRY_WAIT_S = 0.5
#: An entry that the log has and the republished subscription brings has arrived by then.
_REPUBLISH_GRACE_S = 1.0


class NatsFollower:
    """Open it with ``NatsBus.follow``. Iterate it from one task; a cancelled ``anext`` loses nothing."""

    def __init__(self, connection: Connection, start: int, *, whole_from_log: bool) -> None:
        self._connection = connection
        self._buffer = SubscriptionBuffer(connection.config.follow_buffer)
        self._coverage = Coverage(start)
        self._subscriptions: dict[str, Subscription] = {}
        self._denied: dict[str, PermissionDenied] = {}
        self._gap: str | None = "start" if whole_from_log else None
        self._catching_up: AsyncGenerator[Delivery, None] | None = None
        self._auditing: asyncio.Task[None] | None = None
        self._audit_at_s = 0.0
        self.catch_ups = 0
        self.unstored = 0

    @property
    def seq(self) -> int:
        """The last log sequence that is known to be passed: everything up to it has been yielded."""
        return self._coverage.position

    @property
    def dropped(self) -> int:
        """How many republished messages were dropped because nobody took them in time."""
        return self._buffer.dropped

    async def add(self, *patterns: str) -> None:
        """Follow more patterns from now on; when this returns, nothing stored later is missed.

        Raises:
            PermissionDenied: This credential may not subscribe there.
            BusUnavailable: The log's position could not be read.
        """
        await self.start(patterns, base=None)

    async def remove(self, *patterns: str) -> None:
        """Follow these no more."""
        self._coverage.remove(patterns)
        removed = [self._subscriptions.pop(pattern) for pattern in patterns if pattern in self._subscriptions]
        await self._connection.unsubscribe(*removed)

    async def start(self, patterns: tuple[str, ...], base: int | None) -> int:
        """Subscribe, and return the sequence just after which these patterns are followed.

        Args:
            patterns: What to follow.
            base: That sequence; ``None``: the log's end, once the server knows the subscriptions.
        """
        fresh = [check_pattern(pattern) for pattern in dict.fromkeys(patterns) if pattern not in self._subscriptions]
        for pattern in fresh:
            self._subscriptions[pattern] = await self._connection.subscribe(live(pattern), self)
        try:
            end = await last_seq(self._connection)  # asked after them on the same socket, so also a flush
            self._coverage.note_end(end)
            if refused := next((self._denied.pop(p) for p in map(live, fresh) if p in self._denied), None):
                raise refused
        except BaseException:
            await self.remove(*fresh)
            raise
        start = end if base is None else base
        self._coverage.add(fresh, start)
        return start

    def begin_at(self, seq: int) -> None:
        """Want no entry up to ``seq``; before the first iteration."""
        self._coverage.verify(seq)

    async def close(self) -> None:
        """Unsubscribe; nothing is yielded after this."""
        if self._auditing is not None:
            await cancel_and_wait(self._auditing)
        if self._catching_up is not None:
            await self._catching_up.aclose()
            self._catching_up = None
        await self._connection.unsubscribe(*self._subscriptions.values())
        self._subscriptions.clear()

    # --- Sink ------------------------------------------------------------------------------------

    def deliver(self, message: Msg, pattern: str) -> None:
        self._buffer.deliver(message, pattern)

    def interrupted(self) -> None:
        self._buffer.interrupted()

    def denied(self, error: PermissionDenied) -> None:
        self._denied[error.details["subject"]] = error
        self._buffer.denied(error)

    def ended(self, error: PermissionDenied) -> None:
        self._buffer.ended(error)

    # --- AsyncIterator ---------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            if self._gap is not None:
                if (delivery := await self._next_from_log()) is not None:
                    return delivery
                continue
            item = self._buffer.pop()
            if item is None:
                await self._wait()
            elif isinstance(item, Gap):
                self._gap = item.value
            elif isinstance(item, PermissionDenied):
                if self._denied.pop(item.details["subject"], None):  # else ``start`` has raised it
                    raise item
            elif (delivery := self._judge(item)) is not None:
                return delivery

    def _judge(self, item: BufferedMessage) -> Delivery | None:
        headers = item.message.headers or {}
        pattern = item.pattern.removeprefix(LIVE)
        try:
            seq, previous = int(headers["Nats-Sequence"]), int(headers.get("Nats-Last-Sequence", 0))
        except (KeyError, ValueError):
            self.unstored += 1  # not from the stream: somebody published under ``live.``
            _log.warning("unstored-message", action="unstored_message", subject=item.message.subject)
            return None
        if pattern not in self._subscriptions:
            return None
        delivery = to_delivery(item.message, seq)
        match self._coverage.judge(seq, previous, delivery.subject, _message_id(delivery)):
            case Verdict.YIELD:
                if self._coverage.unverified > _MAX_UNVERIFIED:
                    self._audit()
                return delivery
            case Verdict.CATCH_UP:
                self._gap = "skipped"
        return None

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._audit_at_s:
            self._audit_at_s = now + self._connection.config.audit_interval_s
        if now >= self._audit_at_s:
            self._audit()
        await self._buffer.wait(max(self._audit_at_s - now, 0.0))

    # --- the audit -------------------------------------------------------------------------------

    def _audit(self) -> None:
        """Look in the log for entries that never came, while the republished subscription goes on."""
        self._audit_at_s = asyncio.get_running_loop().time() + self._connection.config.audit_interval_s
        if self._auditing is None or self._auditing.done():
            self._auditing = asyncio.create_task(self._find_gaps(), name="follower audits")

    async def _find_gaps(self) -> None:
        patterns = self._coverage.patterns
        try:
            end = await last_seq(self._connection)
            lacking = await self._find_lacking(patterns, end)
            if lacking:
                await asyncio.sleep(_REPUBLISH_GRACE_S)
        except (BusUnavailable, PermissionDenied) as error:
            _log.warning("audit-failed", action="audit_failed", reason=str(error))
        except Exception:
            _log.exception("audit-failed", action="audit_failed")
        else:
            if any(self._coverage.lacks(*entry) for entry in lacking):
                self._buffer.put(Gap.FOUND)
            elif self._gap is None:
                self._coverage.audited(patterns, end)

    async def _find_lacking(self, patterns: list[str], end: int) -> list[tuple[int, str, str]]:
        if end <= self._coverage.verified or not patterns:
            return []
        async with aclosing(self._read(patterns, end, headers_only=True)) as entries:
            found = [(it.seq, it.subject, _message_id(it)) async for it in entries]
            return [entry for entry in found if self._coverage.lacks(*entry)]

    # --- the log ---------------------------------------------------------------------------------

    def _read(self, patterns: list[str], end: int, *, headers_only: bool = False) -> AsyncGenerator[Delivery, None]:
        return read_log(
            self._connection,
            patterns,
            after_seq=self._coverage.verified,
            up_to_seq=end,
            headers_only=headers_only,
            takes=self._coverage.takes,
        )

    async def _next_from_log(self) -> Delivery | None:
        if self._catching_up is None:
            self._catching_up = self._catch_up()
        try:
            return await anext(self._catching_up)
        except StopAsyncIteration:
            self._catching_up = None
            return None
        except BaseException:
            self._catching_up = None  # ``_gap`` stands: the next call starts again where this one was
            raise

    async def _catch_up(self) -> AsyncGenerator[Delivery, None]:
        """Yield what the log has and was not yielded; again until the log could be read to its end.

        Not by ``aio.retrying``: an attempt would catch what the consumer of this generator throws into it.
        """
        reason, found = self._gap, 0
        self.catch_ups += 1
        while True:
            try:
                patterns, (first, end) = self._coverage.patterns, await bounds(self._connection)
                self._check_kept(first)
                if end > self._coverage.verified and patterns:
                    async with aclosing(self._read(patterns, end)) as entries:
                        async for entry in entries:
                            if self._coverage.take_from_log(entry.seq, entry.subject, _message_id(entry)):
                                found += 1
                                yield entry
                break
            except BusUnavailable as error:
                _log.warning("follower-waits", action="follower_waits", gap=reason, reason=str(error))
                await asyncio.sleep(_RETRY_WAIT_S)
        self._coverage.caught_up(patterns, end)  # not what was added meanwhile and begins before that end
        self._gap = None
        _log.info("follower-caught-up", action="follower_caught_up", gap=reason, found=found, stream_seq=end)

    def _check_kept(self, first_seq: int) -> None:
        """Raise if the log's retention has discarded entries that were not yielded; 0 is the log's beginning."""
        verified = self._coverage.verified
        if 0 < verified < first_seq - 1:
            raise LogTruncated("entries were discarded before they were read", after_seq=verified, first_seq=first_seq)


def _message_id(entry: Delivery) -> str:
    return entry.headers.get(MESSAGE_ID, "")


@asynccontextmanager
async def open_follower(
    connection: Connection, patterns: tuple[str, ...], after_seq: int | None
) -> AsyncIterator[NatsFollower]:
    """Follow from just after ``after_seq``, or from now on."""
    follower = NatsFollower(connection, after_seq or 0, whole_from_log=after_seq is not None)
    try:
        start = await follower.start(patterns, base=after_seq)
        if after_seq is None:
            follower.begin_at(start)
        yield follower
    finally:
        await follower.close()
