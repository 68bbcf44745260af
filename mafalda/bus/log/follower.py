"""Follow the log: the fast lane as long as it is whole, mended from the log wherever it may not be.

The lanes and when each is read: ``docs/decisions/0002-lanes.md``. What does not belong here: which entries are
missing (``ledger``), how the log is read (``log``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from nats.aio.msg import Msg

from mafalda.aio.tasks import cancel_and_wait
from mafalda.bus.log.coverage import Ledger, Verdict
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.log.read import last_seq, read_log
from mafalda.bus.nats.connection import Connection
from mafalda.bus.nats.subscription_buffer import Arrivals, Arrived, Hole, to_delivery
from mafalda.bus.nats.subscriptions import Tapped
from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import live
from mafalda.errors import BusUnavailable, PermissionDenied

_log = structlog.get_logger(__name__)

#: Entries yielded on the fast lane's word before the log is looked into, even if the timer is not due.
_MAX_UNVERIFIED = 65536
_RETRY_WAIT_S = 0.5
#: What the log has and the fast lane brings is there by then.
_ON_ITS_WAY_S = 1.0


class NatsFollower:
    """Open it with ``NatsBus.follow``. Iterate it from one task; a cancelled ``anext`` loses nothing."""

    def __init__(self, connection: Connection, start: int, *, whole_from_log: bool) -> None:
        self._connection = connection
        self._arrivals = Arrivals(connection.config.follow_buffer)
        self._ledger = Ledger(start)
        self._taps: dict[str, Tapped] = {}
        self._denied: dict[str, PermissionDenied] = {}
        self._hole: str | None = "start" if whole_from_log else None
        self._mending: AsyncGenerator[Delivery, None] | None = None
        self._auditing: asyncio.Task[None] | None = None
        self._audit_at_s = 0.0
        self.mends = 0
        self.ghosts = 0

    @property
    def seq(self) -> int:
        """The last log sequence that is known to be passed: everything up to it has been yielded."""
        return self._ledger.position

    async def add(self, *patterns: str) -> None:
        """Follow more patterns from now on; when this returns, nothing stored later is missed.

        Raises:
            PermissionDenied: This credential may not subscribe there.
            BusUnavailable: The log's position could not be read.
        """
        await self.start(patterns, base=None)

    async def remove(self, *patterns: str) -> None:
        """Follow these no more."""
        self._ledger.remove(patterns)
        await self._connection.unsubscribe(*(self._taps.pop(pattern) for pattern in patterns if pattern in self._taps))

    async def start(self, patterns: tuple[str, ...], base: int | None) -> int:
        """Subscribe, and answer from where: ``base``, or the log's end once the server knows the subscriptions."""
        fresh = [check_pattern(pattern) for pattern in dict.fromkeys(patterns) if pattern not in self._taps]
        for pattern in fresh:
            self._taps[pattern] = await self._connection.subscribe(live(pattern), self)
        try:
            end = await last_seq(self._connection)  # asked after them on the same socket, so also a flush
            if refused := next((self._denied.pop(p) for p in map(live, fresh) if p in self._denied), None):
                raise refused
        except BaseException:
            await self.remove(*fresh)
            raise
        start = end if base is None else base
        self._ledger.add(fresh, start)
        return start

    def begin_at(self, seq: int) -> None:
        """Nothing up to here is wanted; before the first iteration."""
        self._ledger.verify(seq)

    async def close(self) -> None:
        """Unsubscribe; nothing is yielded after this."""
        if self._auditing is not None:
            await cancel_and_wait(self._auditing)
        await self._drop_mending()
        await self._connection.unsubscribe(*self._taps.values())
        self._taps.clear()

    # --- Sink ------------------------------------------------------------------------------------

    def deliver(self, message: Msg, pattern: str) -> None:
        self._arrivals.deliver(message, pattern)

    def interrupted(self) -> None:
        self._arrivals.interrupted()

    def denied(self, error: PermissionDenied) -> None:
        self._denied[error.details["subject"]] = error
        self._arrivals.denied(error)

    # --- AsyncIterator ---------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            if self._hole is not None:
                if (delivery := await self._next_mended()) is not None:
                    return delivery
                continue
            item = self._arrivals.pop()
            if item is None:
                await self._wait()
            elif isinstance(item, Hole):
                self._hole = item.value
            elif isinstance(item, PermissionDenied):
                if self._denied.pop(item.details["subject"], None):  # else whoever added the pattern was told
                    raise item
            elif (delivery := self._judge(item)) is not None:
                return delivery

    def _judge(self, item: Arrived) -> Delivery | None:
        headers = item.message.headers or {}
        pattern = item.pattern.removeprefix("live.")
        try:
            seq, previous = int(headers["Nats-Sequence"]), int(headers.get("Nats-Last-Sequence", 0))
        except (KeyError, ValueError):
            self.ghosts += 1  # not from the stream: somebody published under ``live.``
            _log.warning("ghost", action="ghost", subject=item.message.subject)
            return None
        if pattern not in self._taps:
            return None
        delivery = to_delivery(item.message, seq)
        match self._ledger.offer(seq, previous, delivery.subject):
            case Verdict.YIELD:
                if self._ledger.unverified > _MAX_UNVERIFIED:
                    self._audit()
                return delivery
            case Verdict.MEND:
                self._hole = "skipped"
        return None

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._audit_at_s:
            self._audit_at_s = now + self._connection.config.audit_interval_s
        if now >= self._audit_at_s:
            self._audit()
        await self._arrivals.wait(max(self._audit_at_s - now, 0.0))

    # --- the audit -------------------------------------------------------------------------------

    def _audit(self) -> None:
        """Look into the log for what nobody has told of, beside the fast lane."""
        self._audit_at_s = asyncio.get_running_loop().time() + self._connection.config.audit_interval_s
        if self._auditing is None or self._auditing.done():
            self._auditing = asyncio.create_task(self._look_for_holes(), name="follower audits")

    async def _look_for_holes(self) -> None:
        patterns = self._ledger.patterns
        try:
            end = await last_seq(self._connection)
            lacking = await self._find_lacking(patterns, end)
            if lacking:
                await asyncio.sleep(_ON_ITS_WAY_S)
        except (BusUnavailable, PermissionDenied) as error:
            _log.warning("audit-failed", action="audit-failed", reason=str(error))
        except Exception:
            _log.exception("audit-failed", action="audit-failed")
        else:
            if any(self._ledger.lacks(seq, subject) for seq, subject in lacking):
                self._arrivals.put(Hole.FOUND)
            elif self._hole is None:
                self._ledger.audited(patterns, end)

    async def _find_lacking(self, patterns: list[str], end: int) -> list[tuple[int, str]]:
        after_seq = self._ledger.verified
        if end <= after_seq or not patterns:
            return []
        entries = read_log(self._connection, patterns, after_seq=after_seq, up_to_seq=end, headers_only=True)
        async with aclosing(entries):
            return [(it.seq, it.subject) async for it in entries if self._ledger.lacks(it.seq, it.subject)]

    # --- the safe lane ---------------------------------------------------------------------------

    async def _next_mended(self) -> Delivery | None:
        if self._mending is None:
            self._mending = self._mend()
        try:
            return await anext(self._mending)
        except StopAsyncIteration:
            self._mending = None
            return None
        except BaseException:
            self._mending = None  # ``_hole`` stands: the next call starts again where this one was
            raise

    async def _mend(self) -> AsyncGenerator[Delivery, None]:
        """Yield what the log has and was not yielded; retry until it could be read to the end."""
        reason, found = self._hole, 0
        self.mends += 1
        while True:
            try:
                patterns, end = self._ledger.patterns, await last_seq(self._connection)
                if end > self._ledger.verified and patterns:
                    entries = read_log(self._connection, patterns, after_seq=self._ledger.verified, up_to_seq=end)
                    async with aclosing(entries):
                        async for entry in entries:
                            if self._ledger.logged(entry.seq, entry.subject):
                                found += 1
                                yield entry
                break
            except BusUnavailable as error:
                _log.warning("follower-waits", action="follower-waits", hole=reason, reason=str(error))
                await asyncio.sleep(_RETRY_WAIT_S)
        self._ledger.audited(patterns, end)  # but what was added meanwhile and begins before that end
        self._hole = None
        _log.info("follower-mended", action="follower-mended", hole=reason, found=found, stream_seq=end)

    async def _drop_mending(self) -> None:
        if self._mending is not None:
            await self._mending.aclose()
            self._mending = None


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
