"""Inboxes: subjects of one subscriber, for replies that must not be stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer, to_delivery
from mafalda.bus.nats.requests import confirm_subscriptions
from mafalda.bus.protocol import Delivery
from mafalda.errors import DeadlineExceeded, PermissionDenied


class NatsInbox:
    """See ``protocol.Inbox``; get one from ``NatsBus.inbox``."""

    def __init__(self, subject: str, buffer: SubscriptionBuffer) -> None:
        self._subject = subject
        self._buffer = buffer

    @property
    def subject(self) -> str:
        return self._subject

    async def next(self, timeout_s: float) -> Delivery:
        """Return the next message.

        Raises:
            DeadlineExceeded: None came in time.
            PermissionDenied: This credential may not have this inbox.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            item = self._buffer.pop()
            if isinstance(item, BufferedMessage):
                return to_delivery(item.message)
            if isinstance(item, PermissionDenied):
                raise item
            if item is None and not await self._buffer.wait(max(deadline - loop.time(), 0)):
                raise DeadlineExceeded("no answer came to an inbox", timeout_s=timeout_s)


@asynccontextmanager
async def open_inbox(connection: Connection) -> AsyncIterator[NatsInbox]:
    """See ``Bus.inbox``."""
    buffer = SubscriptionBuffer(connection.config.follow_buffer)
    subject = connection.new_inbox()
    subscription = await connection.subscribe(subject, buffer)
    try:
        await confirm_subscriptions(connection)
        yield NatsInbox(subject, buffer)
    finally:
        await connection.unsubscribe(subscription)
