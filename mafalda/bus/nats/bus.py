"""The bus on NATS: ``protocol.Bus``, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime

import structlog

from mafalda.aio.clock import PausableClock
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection, open_connection
from mafalda.bus.connection.subscription_buffer import BufferedMessage, Gap, SubscriptionBuffer, to_delivery
from mafalda.bus.log import append, read, snapshots
from mafalda.bus.log.follower import NatsFollower, open_follower
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.log.snapshots import NatsSnapshots
from mafalda.bus.log.streams import ensure_streams
from mafalda.bus.nats import requests
from mafalda.bus.nats.grants import read_grants
from mafalda.bus.nats.inbox import open_inbox
from mafalda.bus.protocol import Appended, Delivery, Expect, Follower, Handler, Inbox, LogUsage
from mafalda.contract.grants import Grants
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.subjects import LIVE, live
from mafalda.errors import BusUnavailable, PermissionDenied

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def connect(config: BusConfig) -> AsyncIterator[NatsBus]:
    """Connect, create or update the streams, disconnect.

    Raises:
        BusUnavailable: No NATS in time, or one without JetStream.
        PermissionDenied: The credential was refused.
        StreamMismatch: One of the two streams exists and is of another kind.
    """
    async with open_connection(config) as connection:
        if config.ensure_streams:
            await ensure_streams(connection)
        yield NatsBus(connection)


class NatsBus:
    """A ``Bus``; get one from ``connect``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.snapshots = NatsSnapshots(connection)

    @property
    def clock(self) -> PausableClock:
        return self.connection.clock

    async def append(
        self, subject: str, message: Message, *, expect: Expect | None = None, headers: Mapping[str, str] | None = None
    ) -> Appended:
        return await append.append(self.connection, subject, message, expect, headers)

    def follow(self, *patterns: str, after_seq: int | None = None) -> AbstractAsyncContextManager[Follower]:
        return self._follow(patterns, after_seq)

    @asynccontextmanager
    async def _follow(self, patterns: tuple[str, ...], after_seq: int | None) -> AsyncIterator[NatsFollower]:
        async with open_follower(self.connection, patterns, after_seq) as follower:
            yield follower

    def share(self, *patterns: str, group: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        return self._subscribe([live(check_pattern(pattern)) for pattern in patterns], group)

    async def read(
        self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None
    ) -> AsyncGenerator[Delivery, None]:
        reading = read.read_log(self.connection, patterns, after_seq=after_seq, up_to_seq=up_to_seq)
        async with aclosing(reading) as entries:
            async for entry in entries:
                yield entry

    async def last(self, subject: str) -> Delivery | None:
        return await read.last_entry(self.connection, check_pattern(subject))

    async def last_seq(self) -> int:
        return await read.last_seq(self.connection)

    async def log_usage(self) -> LogUsage:
        return await read.log_usage(self.connection)

    async def stored_at(self, seq: int) -> datetime:
        return await snapshots.stored_at(self.connection, seq)

    async def purge_log(self, *, before_seq: int) -> None:
        await snapshots.purge_log(self.connection, before_seq=before_seq)

    async def grants(self, room: str, peer: str) -> Grants | None:
        return await read_grants(self.connection, room, peer)

    async def publish(self, subject: str, message: Message) -> None:
        if append.is_captured(subject):
            raise ValueError(f"the log captures {subject!r}: append there")
        raw = encode(message)
        try:
            await self.connection.publish(subject, raw, headers=append.message_headers(message))
        except BusUnavailable as error:  # at most once, so not again
            _log.warning("publish-lost", action="publish_lost", subject=subject, reason=str(error))

    def listen(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        return self._subscribe([check_pattern(pattern) for pattern in patterns], "")

    async def latest_loads(self) -> Sequence[Delivery]:
        return await read.latest_loads(self.connection)

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        return await requests.request(self.connection, subject, message, timeout_s)

    def serve(self, *patterns: str, handler: Handler, group: str = "") -> AbstractAsyncContextManager[None]:
        return requests.serve(self.connection, patterns, handler, group)

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        return self._inbox()

    @asynccontextmanager
    async def _inbox(self) -> AsyncIterator[Inbox]:
        async with open_inbox(self.connection) as inbox:
            yield inbox

    @asynccontextmanager
    async def _subscribe(self, subjects: list[str], group: str) -> AsyncIterator[AsyncIterator[Delivery]]:
        buffer = SubscriptionBuffer(self.connection.config.follow_buffer)
        subscriptions = [await self.connection.subscribe(subject, buffer, queue=group) for subject in subjects]
        try:
            await requests.confirm_subscriptions(self.connection)
            yield _Deliveries(buffer)
        finally:
            await self.connection.unsubscribe(*subscriptions)


class _Deliveries:
    """Messages from a buffer, each at most once."""

    def __init__(self, buffer: SubscriptionBuffer) -> None:
        self._buffer = buffer

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            item = self._buffer.pop()
            if item is None:
                await self._buffer.wait()
            elif isinstance(item, BufferedMessage):
                if delivery := _delivery(item):
                    return delivery
            elif isinstance(item, PermissionDenied):
                raise item
            elif item is Gap.OVERFLOWED:
                _log.warning("buffer-dropped", action="buffer_dropped", dropped=self._buffer.dropped)


def _delivery(item: BufferedMessage) -> Delivery | None:
    message = item.message
    if not message.subject.startswith(LIVE):
        return to_delivery(message)
    try:
        return to_delivery(message, int((message.headers or {})["Nats-Sequence"]))
    except (KeyError, ValueError):
        # Not from the stream: somebody published under ``live.``.
        _log.warning("unstored-message", action="unstored_message", subject=message.subject)
        return None
