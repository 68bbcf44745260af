"""Follow the log with a participant's token: republished entries, and what an agent sends where some may be missing."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import structlog
from nats.aio.msg import Msg

from mafalda.aio.tasks import cancel_and_wait
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.subscription_buffer import BufferedMessage, Gap, SubscriptionBuffer, to_delivery
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.nats.requests import confirm_subscriptions
from mafalda.bus.participant.chains import Chains, Verdict
from mafalda.bus.protocol import MESSAGE_ID, Appended, Delivery
from mafalda.contract.messages.queries import LogEntries, LogEntry
from mafalda.contract.subjects import live
from mafalda.errors import MafaldaError, PermissionDenied

_log = structlog.get_logger(__name__)

#: Between two audits, in ``audit_interval_s``: an agent has to read the log for each client. At random, so that clients
#: that connected at once do not ask at once.
_AUDIT_INTERVALS = (2.0, 6.0)

#: Asks an agent for the entries after a sequence, until one has answered.
Ask = Callable[[int], Awaitable[LogEntries]]


class ParticipantFollower:
    """A ``Sink``; open it with ``open_follower``. Iterate it from one task; a cancelled ``anext`` loses nothing."""

    def __init__(self, connection: Connection, ask: Ask) -> None:
        self._config = connection.config
        self._buffer = SubscriptionBuffer(self._config.follow_buffer)
        self._ask = ask
        #: Why nothing can be followed any more.
        self.refusal: PermissionDenied | None = None
        self._chains = Chains()
        self._page: deque[Delivery] = deque()
        self._after: int | None = None  # entries after this sequence have to be asked for
        self._was_interrupted = False
        self._audit_at_s = 0.0
        self._auditing: asyncio.Task[None] | None = None
        self._audited: LogEntries | None = None  # the answer that an audit got

    def appended(self, stored: Appended) -> None:
        """The client's own message is stored; if it was so before, its result may have been missed."""
        begins = self._chains.floor is None
        was_skipped = self._chains.begin(stored.seq)
        if stored.duplicate or was_skipped or (begins and self._was_interrupted):
            self._miss(self._chains.ask_after(seq=stored.seq))
            self._buffer.wake()

    async def close(self) -> None:
        """End what runs in the background."""
        if self._auditing is not None:
            await cancel_and_wait(self._auditing)

    # --- Sink ------------------------------------------------------------------------------------

    def deliver(self, message: Msg, pattern: str) -> None:
        self._buffer.deliver(message, pattern)

    def interrupted(self) -> None:
        self._buffer.interrupted()

    def denied(self, error: PermissionDenied) -> None:
        self.refusal = error
        self._buffer.denied(error)

    def ended(self, error: PermissionDenied) -> None:
        self.refusal = error
        self._buffer.ended(error)

    # --- AsyncIterator ---------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            if self._page:
                return self._page.popleft()
            if self._after is not None:
                await self._ask_for_missed(self._after)
                continue
            if (audited := self._audited) is not None:
                self._audited = None
                self._take_audited(audited)
                continue
            item = self._buffer.pop()
            if item is None:
                await self._wait()
            elif isinstance(item, PermissionDenied):
                raise item
            elif isinstance(item, Gap):
                self._note_gap()
            elif (delivery := self._judge(item)) is not None:
                return delivery

    def _note_gap(self) -> None:
        self._was_interrupted = True
        if self._chains.floor is not None:
            self._miss(self._chains.ask_after())

    def _miss(self, after: int) -> None:
        self._after = after if self._after is None else min(after, self._after)

    def _judge(self, item: BufferedMessage) -> Delivery | None:
        headers = item.message.headers or {}
        try:
            seq, previous = int(headers["Nats-Sequence"]), int(headers.get("Nats-Last-Sequence", 0))
        except (KeyError, ValueError):
            _log.warning("unstored-message", action="unstored_message", subject=item.message.subject)
            return None
        delivery = to_delivery(item.message, seq)
        match self._chains.judge(delivery.subject, seq, previous):
            case Verdict.YIELD:
                return delivery
            case Verdict.MISSING:
                self._miss(self._chains.ask_after(subject=delivery.subject))  # the answer has this entry too
        return None

    async def _ask_for_missed(self, after: int) -> None:
        answer = await self._ask(after)
        found = self._take_entries(answer)
        _log.info("asked for entries", action="participant_caught_up", after_seq=after, found=found)
        if self._after is not None and self._after < after:
            return  # meanwhile earlier ones are missed
        self._after = None
        self._note_answered(answer)

    def _take_entries(self, answer: LogEntries) -> int:
        missed = [_delivery(it) for it in answer.entries if self._chains.take(it.subject, it.seq)]
        self._page.extend(missed)
        return len(missed)

    def _note_answered(self, answer: LogEntries) -> None:
        if answer.more:
            self._miss(answer.seq)
        else:
            self._chains.caught_up(answer.seq)

    # --- the audit -------------------------------------------------------------------------------

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._audit_at_s:
            is_first = not self._audit_at_s
            self._audit_at_s = now + self._config.audit_interval_s * random.uniform(*_AUDIT_INTERVALS)
            if not is_first and self._chains.floor is not None and (self._auditing is None or self._auditing.done()):
                self._auditing = asyncio.create_task(self._audit(self._chains.ask_after()), name="follower audits")
        await self._buffer.wait(self._audit_at_s - now)

    async def _audit(self, after: int) -> None:
        """Ask for entries that never came, while the republished subscription goes on.

        So what was lost at the end of a chain is found, and ``LogTruncated`` remains for those who missed something: a
        client that receives nothing for long would else ask after an entry that the log has not kept.
        """
        try:
            self._audited = await self._ask(after)
            self._buffer.wake()
        except MafaldaError as error:
            _log.warning("audit-failed", action="audit_failed", reason=str(error))
        except Exception:
            _log.exception("audit-failed", action="audit_failed")

    def _take_audited(self, answer: LogEntries) -> None:
        if found := self._take_entries(answer):
            _log.warning("an audit found entries", action="participant_audited", found=found)
        self._note_answered(answer)


def _delivery(entry: LogEntry) -> Delivery:
    message_id = entry.message.get("id")
    headers = {MESSAGE_ID: message_id} if isinstance(message_id, str) else {}
    return Delivery(entry.subject, orjson.dumps(entry.message), entry.seq, headers=headers)


@asynccontextmanager
async def open_follower(
    connection: Connection, patterns: tuple[str, ...], ask: Ask
) -> AsyncIterator[ParticipantFollower]:
    """Follow from now on.

    Raises:
        PermissionDenied: The token does not permit one of the patterns.
        BusUnavailable: NATS did not confirm the subscriptions.
    """
    follower = ParticipantFollower(connection, ask)
    subscriptions = [await connection.subscribe(live(check_pattern(pattern)), follower) for pattern in patterns]
    try:
        await confirm_subscriptions(connection)
        if follower.refusal is not None:
            raise follower.refusal
        yield follower
    finally:
        await follower.close()
        await connection.unsubscribe(*subscriptions)
