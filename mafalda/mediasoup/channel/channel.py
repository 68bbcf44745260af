"""Requests, answers and notifications of one worker, in order, with deadlines.

Answers resolve futures, and notifications are scheduled behind them, so code that awaited an answer runs before the
notifications that followed it. When the worker accepts a request whose caller was cancelled or timed out, the channel
sends the request that undoes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import structlog
from opentelemetry import trace

from mafalda.aio.tasks import TaskScope
from mafalda.mediasoup.channel import messages
from mafalda.mediasoup.channel.framing import FrameReader, frame
from mafalda.mediasoup.channel.notifications import Handler, NotificationHandlers
from mafalda.mediasoup.errors import (
    AlreadyExists,
    FramingError,
    InvalidParameters,
    MafaldaError,
    NotFound,
    RequestTimeout,
    WorkerClosed,
    WorkerExited,
    WorkerRequestFailed,
)

# The greatest id of a request; the next one after it is 1.
LAST_REQUEST_ID = 2**32 - 1
# Most bytes that may wait to be written when a notification is sent; requests are bounded by their deadline.
MAX_UNSENT_BYTES = 16 * 1024 * 1024
_LOG_LEVELS = {"D": "debug", "W": "warning", "E": "error", "X": "info"}
_ERRORS: Mapping[str, type[MafaldaError]] = {"TypeError": InvalidParameters, "NotFoundError": NotFound}
_tracer = trace.get_tracer("mafalda.mediasoup")
log = structlog.get_logger("mafalda.mediasoup")


class Undo(NamedTuple):
    """The request that undoes another one."""

    method: str
    handler_id: str
    body: Mapping[str, Any]


class Writer(Protocol):
    """Where frames are written: an asyncio transport."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...


class _AwaitedResponse(NamedTuple):
    method: str
    handler_id: str
    answer: asyncio.Future[dict[str, Any]]
    deadline: asyncio.TimerHandle
    creates: str | None
    undo: Undo | None


class Channel:
    """The channel to one worker.

    Args:
        worker_pid: For logs and spans.
        request_timeout_s: Deadline of each request, in seconds.
        on_broken: Called once when the bytes from the worker are not its protocol.
    """

    def __init__(self, worker_pid: int, request_timeout_s: float, on_broken: Callable[[FramingError], None]) -> None:
        self.tasks = TaskScope()
        self._worker_pid = worker_pid
        self._request_timeout_s = request_timeout_s
        self._on_broken = on_broken
        self.on_log: Callable[[str], None] = lambda _: None  # gets each log line, with its level in front
        self._writer: Writer | None = None
        self._unsent: list[bytes] = []  # requests of this turn of the event loop but for the first
        self._is_gathering = False
        self._reader = FrameReader()
        self._last_id = 0
        self._pending: dict[int, _AwaitedResponse] = {}
        self._ended: MafaldaError | None = None
        self._loop = asyncio.get_running_loop()
        self._log = log.bind(worker_pid=worker_pid)
        self._handlers = NotificationHandlers(self._log)

    def attach(self, writer: Writer) -> None:
        """Write frames to ``writer`` from now on."""
        self._writer = writer

    @property
    def pending_requests(self) -> int:
        """How many requests wait for their answer."""
        return len(self._pending)

    async def request(
        self,
        method: str,
        handler_id: str = "",
        body: Mapping[str, Any] | None = None,
        *,
        creates: str | None = None,
        undo: Undo | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for the answer's body.

        Args:
            method: A key of ``messages.REQUEST_BODIES``.
            handler_id: The worker's id of the object that it is for; empty for the worker itself.
            body: JSON-like, checked against the schema.
            creates: Id of the object that the request makes: its notifications are held until ``subscribe``.
            undo: Sent if the worker accepts the request when its caller has given up.

        Raises:
            InvalidParameters: The body does not fit the schema, or the worker answers TypeError.
            AlreadyExists: ``creates`` is in use.
            NotFound: The worker has no such object.
            WorkerRequestFailed: Any other refusal.
            RequestTimeout: No answer in time.
            WorkerClosed: The worker is closed, or closes meanwhile.
            WorkerExited: It died.
        """
        if isinstance(_tracer, trace.ProxyTracer) and isinstance(
            trace.get_tracer_provider(), trace.ProxyTracerProvider
        ):  # nobody traces, and a span that is not recorded costs as well
            return await self._await_answer(method, handler_id, body, creates, undo)
        with _tracer.start_as_current_span(
            "mediasoup.request " + _dotted(method),
            kind=trace.SpanKind.CLIENT,
            attributes={"mediasoup.handler_id": handler_id, "mediasoup.worker_pid": self._worker_pid},
        ):
            return await self._await_answer(method, handler_id, body, creates, undo)

    async def _await_answer(
        self, method: str, handler_id: str, body: Mapping[str, Any] | None, creates: str | None, undo: Undo | None
    ) -> dict[str, Any]:
        answer = self._send(method, handler_id, body, creates, undo)
        try:
            return await answer
        except asyncio.CancelledError:
            # Accepted and cancelled in the same moment: the caller will not see the answer.
            if undo is not None and not answer.cancelled() and answer.exception() is None:
                self._undo(method, creates, undo)
            raise

    def _send(
        self,
        method: str,
        handler_id: str,
        body: Mapping[str, Any] | None,
        creates: str | None = None,
        undo: Undo | None = None,
    ) -> asyncio.Future[dict[str, Any]]:
        writer = self._open_writer()
        if creates is not None and creates in self._handlers:
            raise AlreadyExists("the worker has an object with this id already", id=creates)
        id_ = self._last_id = self._last_id % LAST_REQUEST_ID + 1
        data = frame(messages.encode_request(id_, method, handler_id, body))
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        deadline = self._loop.call_later(self._request_timeout_s, self._expire, id_)
        self._pending[id_] = _AwaitedResponse(method, handler_id, answer, deadline, creates, undo)
        if creates is not None:
            self._handlers.hold(creates)
        self._write(writer, data)
        return answer

    def _write(self, writer: Writer, data: bytes) -> None:
        """Write a request: the first of a turn of the event loop at once, those behind it together at its end."""
        if self._is_gathering:
            self._unsent.append(data)
            return
        self._is_gathering = True
        self._loop.call_soon(self._flush)
        if not writer.is_closing():  # else the worker is dead, and ``end``, which fails this request, comes soon
            writer.write(data)

    def _flush(self) -> None:
        self._is_gathering = False
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            if self._writer is not None and not self._writer.is_closing():
                self._writer.write(data)

    def notify(self, event: str, handler_id: str = "", body: Mapping[str, Any] | None = None) -> None:
        """Send a notification.

        Raises:
            InvalidParameters: The body does not fit the schema.
            WorkerRequestFailed: The worker does not read; the notification was not sent.
            WorkerClosed: The worker is closed.
            WorkerExited: It died.
        """
        writer = self._open_writer()
        if writer.is_closing():
            raise WorkerExited("the worker died", worker_pid=self._worker_pid)
        unsent_bytes = writer.get_write_buffer_size()
        if unsent_bytes > MAX_UNSENT_BYTES:
            raise WorkerRequestFailed("the worker does not read", unsent_bytes=unsent_bytes)
        data = frame(messages.encode_notification(event, handler_id, body))
        if self._unsent:
            self._flush()
        writer.write(data)

    def subscribe(self, handler_id: str, handler: Handler) -> None:
        """Deliver the notifications for ``handler_id`` to ``handler``, those that were held first."""
        self._handlers.subscribe(handler_id, handler)

    def unsubscribe(self, handler_id: str) -> None:
        """Drop the notifications for ``handler_id`` from now on."""
        self._handlers.unsubscribe(handler_id)

    def end(self, error: MafaldaError) -> None:
        """Close the channel: pending requests fail with ``error``, and so does everything from now on."""
        if self._ended is not None:
            return
        self._ended = error
        for pending in self._pending.values():
            pending.deadline.cancel()
            if not pending.answer.done():
                pending.answer.set_exception(_copy(error, pending.method))
                pending.answer.exception()  # so that asyncio does not warn where the caller has given up
        self._pending.clear()
        self._unsent.clear()
        self._handlers.clear()

    def feed(self, data: bytes) -> None:
        """Handle bytes that came from the worker."""
        try:
            for payload in self._reader.feed(data):
                self._receive(messages.decode(payload))
        except FramingError as error:
            self._log.error("lost the framing of a worker", action="framing_lost", reason=str(error))
            self._on_broken(error)

    def check_open(self) -> None:
        """Raise the error that closed the channel, if it is closed."""
        if self._ended is not None:
            raise _copy(self._ended, None)

    def _open_writer(self) -> Writer:
        self.check_open()
        if self._writer is None:
            raise WorkerClosed("the worker is not running yet")
        return self._writer

    def _receive(self, message: object) -> None:
        match message:
            case messages.Response():
                self._answer(message)
            case messages.Notification():
                # Scheduled behind the callbacks of the answers that came before it.
                self._loop.call_soon(self._handlers.deliver, message)
            case messages.Log(data):
                level = _LOG_LEVELS.get(data[:1])
                if level is not None:
                    getattr(self._log, level)("worker says", action="worker_log", line=data[1:])
                self.on_log(data)
            case _:
                raise FramingError("a worker sends no such message", kind=str(message))

    def _answer(self, response: messages.Response) -> None:
        pending = self._pending.pop(response.id, None)
        if pending is None:
            self._log.warning("answer to no request", action="answer_unexpected", request_id=response.id)
            return
        pending.deadline.cancel()
        answer = pending.answer
        if response.accepted:
            if not answer.done():
                answer.set_result(response.body)
            elif pending.undo is not None:
                self._undo(pending.method, pending.creates, pending.undo)
            return
        self._drop_held(pending.creates)
        if not answer.done():
            kind = _ERRORS.get(response.error or "", WorkerRequestFailed)
            answer.set_exception(
                kind(
                    response.reason or response.error or "refused without a reason",
                    method=_dotted(pending.method),
                    object_id=pending.handler_id,
                )
            )

    def _expire(self, id_: int) -> None:
        pending = self._pending[id_]
        if not pending.answer.done():
            pending.answer.set_exception(
                RequestTimeout(
                    "the worker did not answer in time",
                    method=_dotted(pending.method),
                    timeout_s=self._request_timeout_s,
                )
            )
        if pending.undo is None:
            # Its answer, if it comes, is dropped; with an undo it is awaited all the same.
            self._drop_held(pending.creates)

    def _undo(self, method: str, creates: str | None, undo: Undo) -> None:
        if self._ended is None:
            self._log.warning("undoing an accepted request", action="request_undone", method=_dotted(method))
            self._drop_held(creates)
            self._send(*undo).add_done_callback(_retrieve)

    def _drop_held(self, creates: str | None) -> None:
        if creates is not None:
            self._handlers.drop_held(creates)


def _dotted(method: str) -> str:
    return method.replace("_", ".", 1).lower()


def _copy(error: MafaldaError, method: str | None) -> MafaldaError:
    """A copy of the error for one more caller: each raises its own object."""
    details = error.details if method is None else error.details | {"method": _dotted(method)}
    return type(error)(error.reason, **details)


def _retrieve(answer: asyncio.Future[dict[str, Any]]) -> None:
    if not answer.cancelled():
        answer.exception()
