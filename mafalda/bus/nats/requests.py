"""Ask and answer beside the log. What does not belong here: what is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from mafalda.aio.tasks import background, cancel_and_wait
from mafalda.bus.compose import compose
from mafalda.bus.log.append import message_headers
from mafalda.bus.log.patterns import check_pattern
from mafalda.bus.nats.connection import Connection, Unanswered
from mafalda.bus.nats.subscription_buffer import Arrivals, Arrived, to_delivery
from mafalda.bus.protocol import Delivery, Handler
from mafalda.contract.messages.envelope import CONTENT_TYPE, Message, decode, encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.results import Rejected
from mafalda.contract.subjects import parse
from mafalda.errors import BusUnavailable, DeadlineExceeded, MafaldaError, NotFound, PermissionDenied

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
    return read_answer(answer.data)


def read_answer(raw: bytes) -> Message:
    """An answer, unless it says no.

    Raises:
        MafaldaError: What the other side answered, as its own class.
    """
    answer = decode(raw)
    if isinstance(answer.data, Rejected):
        raise answer.data.error.to_error()
    return answer


async def answer_to(delivery: Delivery, handler: Handler, source: str) -> bytes:
    """What to answer to one request; an error of the handler becomes ``Rejected``."""
    try:
        return encode(await handler(delivery))
    except MafaldaError as error:
        refusal = error
    except Exception:
        _log.exception("handler-failed", action="handler-failed", subject=delivery.subject)
        refusal = MafaldaError("the request failed inside")
    return _refuse(delivery, refusal, source)


def refuse_ended(delivery: Delivery, source: str) -> bytes:
    """What to answer to one request when nobody serves it any more."""
    return _refuse(delivery, NotFound("nobody answers here any more"), source)


def _refuse(delivery: Delivery, refusal: MafaldaError, source: str) -> bytes:
    address = parse(delivery.subject)
    rejected = Rejected(intent=address.action if address else "request", error=ErrorInfo.of(refusal))
    return encode(compose(rejected, subject=delivery.subject, source=source))


@asynccontextmanager
async def serve(connection: Connection, patterns: tuple[str, ...], handler: Handler) -> AsyncIterator[None]:
    """See ``Bus.serve``. At the end, what is being worked on is cancelled, and refused like what waits still."""
    arrivals = Arrivals(connection.config.follow_buffer)
    taps = [await connection.subscribe(check_pattern(pattern), arrivals) for pattern in patterns]
    async with background(_serve(connection, arrivals, handler), name="bus-serve"):
        try:
            await flush(connection)
            yield
        finally:
            await connection.unsubscribe(*taps)


async def flush(connection: Connection) -> None:
    """Be sure that the server knows the subscriptions.

    Raises:
        BusUnavailable: It did not answer.
    """
    try:
        await connection.flush(connection.config.api_timeout_s)
    except Unanswered as unanswered:
        raise BusUnavailable("NATS did not confirm a subscription", reason=unanswered.reason) from None


async def _serve(connection: Connection, arrivals: Arrivals, handler: Handler) -> None:
    running: set[asyncio.Task[None]] = set()
    slots = asyncio.Semaphore(connection.config.serve_concurrency)

    source = f"/mafalda/{connection.config.name}"

    async def answer(delivery: Delivery) -> None:
        try:
            await reply(delivery, await answer_to(delivery, handler, source))
        except asyncio.CancelledError:
            await reply(delivery, refuse_ended(delivery, source))
            raise
        finally:
            slots.release()

    async def reply(delivery: Delivery, raw: bytes) -> None:
        try:
            if delivery.reply:
                await connection.publish(delivery.reply, raw, headers={"Content-Type": CONTENT_TYPE})
        except BusUnavailable as error:  # the asker's deadline tells it
            _log.warning("answer-lost", action="answer-lost", subject=delivery.subject, reason=str(error))

    try:
        while True:
            await arrivals.wait()
            item = arrivals.pop()
            if isinstance(item, PermissionDenied):
                raise item
            if isinstance(item, Arrived):
                await slots.acquire()
                delivery = to_delivery(item.message)
                task = asyncio.create_task(answer(delivery), name=f"bus-answer {delivery.subject}")
                running.add(task)
                task.add_done_callback(running.discard)
    finally:
        await cancel_and_wait(*running)
        while (item := arrivals.pop()) is not None:
            if isinstance(item, Arrived):
                delivery = to_delivery(item.message)
                await reply(delivery, refuse_ended(delivery, source))


class NatsInbox:
    """A subject of one's own."""

    def __init__(self, subject: str, arrivals: Arrivals) -> None:
        self._subject = subject
        self._arrivals = arrivals

    @property
    def subject(self) -> str:
        return self._subject

    async def next(self, timeout_s: float) -> Delivery:
        """The next answer.

        Raises:
            DeadlineExceeded: None came in time.
            PermissionDenied: This credential may not have this inbox.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            item = self._arrivals.pop()
            if isinstance(item, Arrived):
                return to_delivery(item.message)
            if isinstance(item, PermissionDenied):
                raise item
            if item is None and not await self._arrivals.wait(max(deadline - loop.time(), 0)):
                raise DeadlineExceeded("no answer came to an inbox", timeout_s=timeout_s)


@asynccontextmanager
async def open_inbox(connection: Connection) -> AsyncIterator[NatsInbox]:
    """See ``Bus.inbox``."""
    arrivals = Arrivals(connection.config.follow_buffer)
    subject = connection.new_inbox()
    tapped = await connection.subscribe(subject, arrivals)
    try:
        await flush(connection)
        yield NatsInbox(subject, arrivals)
    finally:
        await connection.unsubscribe(tapped)
