"""Follow the log with a participant's token: republished entries, and what an agent sends where some may be missing."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import structlog
from nats.aio.msg import Msg

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.subscription_buffer import BufferedMessage, Gap, SubscriptionBuffer, to_delivery
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.nats.requests import confirm_subscriptions
from mafalda.bus.participant.chains import Chains, Verdict
from mafalda.bus.protocol import MESSAGE_ID, Appended, Delivery
from mafalda.contract.messages.queries import LogEntries, LogEntry
from mafalda.contract.subjects import live
from mafalda.errors import PermissionDenied

_log = structlog.get_logger(__name__)

#: Asks an agent for the entries after a sequence, until one has answered.
Ask = Callable[[int], Awaitable[LogEntries]]


class ParticipantFollower:
    """A ``Sink``; open it with ``open_follower``. Iterate it from one task; a cancelled ``anext`` loses nothing."""

    def __init__(self, connection: Connection, ask: Ask) -> None:
        self._buffer = SubscriptionBuffer(connection.config.follow_buffer)
        self._ask = ask
        #: Why nothing can be followed any more.
        self.refusal: PermissionDenied | None = None
        self._chains = Chains()
        self._page: deque[Delivery] = deque()
        self._after: int | None = None  # entries after this sequence have to be asked for
        self._was_interrupted = False

    def appended(self, stored: Appended) -> None:
        """The client's own message is stored; if it was so before, its result may have been missed."""
        begins = self._chains.floor is None
        was_skipped = self._chains.begin(stored.seq)
        if stored.duplicate or was_skipped or (begins and self._was_interrupted):
            self._miss(self._chains.ask_after(seq=stored.seq))
            self._buffer.wake()

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
            item = self._buffer.pop()
            if item is None:
                await self._buffer.wait()
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
        missed = [_delivery(it) for it in answer.entries if self._chains.take(it.subject, it.seq)]
        self._page.extend(missed)
        _log.info("asked for entries", action="participant_caught_up", after_seq=after, found=len(missed))
        if self._after is not None and self._after < after:
            return  # meanwhile earlier ones are missed
        if answer.more:
            self._after = answer.seq
        else:
            self._after = None
            self._chains.caught_up(answer.seq)


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
        await connection.unsubscribe(*subscriptions)
