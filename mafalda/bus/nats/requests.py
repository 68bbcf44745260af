"""Request and reply on NATS, outside the log: ``Bus.request`` and ``Bus.serve``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from mafalda.aio.tasks import background, open_tasks
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer, to_delivery
from mafalda.bus.log.append import message_headers
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.protocol import Delivery, Handler
from mafalda.bus.replies import may_be_served, read_reply, refuse_unserved, reply_to
from mafalda.contract.messages.envelope import CONTENT_TYPE, Message, encode
from mafalda.errors import BusUnavailable, DeadlineExceeded, PermissionDenied

_log = structlog.get_logger(__name__)


async def request(connection: Connection, subject: str, message: Message, timeout_s: float) -> Message:
    """See ``Bus.request``."""
    try:
        answer = await connection.request(
            subject, encode(message), headers=message_headers(message), timeout_s=timeout_s
        )
    except Unanswered as unanswered:
        raise DeadlineExceeded(
            "a request was not answered", subject=subject, reason=unanswered.reason, timeout_s=timeout_s
        ) from None
    return read_reply(answer.data)


@asynccontextmanager
async def serve(connection: Connection, patterns: tuple[str, ...], handler: Handler, group: str) -> AsyncIterator[None]:
    """See ``Bus.serve``. At the end handlers that still run are cancelled, and every request left is refused."""
    buffer = SubscriptionBuffer(connection.config.follow_buffer)
    subscriptions = [await connection.subscribe(check_pattern(pattern), buffer, queue=group) for pattern in patterns]
    async with background(_Server(connection, buffer, handler).run(), name="bus-serve"):
        try:
            await confirm_subscriptions(connection)
            yield
        finally:
            await connection.unsubscribe(*subscriptions)


async def confirm_subscriptions(connection: Connection) -> None:
    """Return when the server knows all subscriptions so far.

    Raises:
        BusUnavailable: It did not answer.
    """
    try:
        await connection.flush(connection.config.api_timeout_s)
    except Unanswered as unanswered:
        raise BusUnavailable("NATS did not confirm a subscription", reason=unanswered.reason) from None


class _Server:
    """Replies to the requests of one buffer, several at once."""

    def __init__(self, connection: Connection, buffer: SubscriptionBuffer, handler: Handler) -> None:
        self._connection = connection
        self._buffer = buffer
        self._handler = handler
        self._slots = asyncio.Semaphore(connection.config.serve_concurrency)
        self._source = f"/mafalda/{connection.config.name}"

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            PermissionDenied: This credential may not subscribe to these requests.
        """
        try:
            async with open_tasks() as tasks:
                while True:
                    await self._buffer.wait()
                    item = self._buffer.pop()
                    if isinstance(item, PermissionDenied):
                        raise item
                    if isinstance(item, BufferedMessage) and may_be_served(received := to_delivery(item.message)):
                        await self._slots.acquire()
                        tasks.spawn(self._handle(received), name=f"bus-answer {received.subject}")
        finally:
            while (item := self._buffer.pop()) is not None:
                if isinstance(item, BufferedMessage) and may_be_served(received := to_delivery(item.message)):
                    await self._reply(received, refuse_unserved(received, self._source))

    async def _handle(self, received: Delivery) -> None:
        try:
            await self._reply(received, await reply_to(received, self._handler, self._source))
        except asyncio.CancelledError:
            await self._reply(received, refuse_unserved(received, self._source))
            raise
        finally:
            self._slots.release()

    async def _reply(self, received: Delivery, raw: bytes | None) -> None:
        try:
            if received.reply and raw is not None:
                await self._connection.publish(received.reply, raw, headers={"Content-Type": CONTENT_TYPE})
        except BusUnavailable as error:  # the requester's deadline ends its wait
            _log.warning("answer-lost", action="answer_lost", subject=received.subject, reason=str(error))
