"""Requests, answers and notifications of one worker, in order, with deadlines.

The answers resolve futures and the notifications are scheduled behind them, so whoever awaited an answer runs
before the notifications that followed it. Notifications for an object that is being created are held until its
handler is there. A request whose caller gave up and that the worker nevertheless grants is undone.

What does not belong here: the process and its exit (``process``), what any request means (the objects' files).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import structlog
from opentelemetry import trace

from mafalda.aio.tasks import TaskScope
from mafalda.mediasoup.channel import messages
from mafalda.mediasoup.channel.framing import FrameReader, frame
from mafalda.mediasoup.errors import (
    AlreadyExists,
    FramingError,
    InvalidParameters,
    MafaldaError,
    NotFound,
    RequestTimeout,
    WorkerClosed,
    WorkerDied,
    WorkerRequestFailed,
)

Handler = Callable[[str, dict[str, Any]], None]
# Notifications held for an object that is being created; far more than a worker sends in that moment.
MAX_HELD = 1000
# What may wait to be written, for notifications: requests are bounded by their deadline.
MAX_UNSENT_BYTES = 16 * 1024 * 1024
_LOG_LEVELS = {"D": "debug", "W": "warning", "E": "error", "X": "info"}
_ERRORS: Mapping[str, type[MafaldaError]] = {"TypeError": InvalidParameters, "NotFoundError": NotFound}
_tracer = trace.get_tracer("mafalda.mediasoup")
log = structlog.get_logger("mafalda.mediasoup")


class Undo(NamedTuple):
    """The request that takes back what another one made."""

    method: str
    handler_id: str
    body: Mapping[str, Any]


class Writer(Protocol):
    """Where frames go: an asyncio transport."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...


class _Pending(NamedTuple):
    method: str
    handler_id: str
    answer: asyncio.Future[dict[str, Any]]
    deadline: asyncio.TimerHandle
    creates: str | None
    undo: Undo | None


class Channel:
    """The conversation with one worker.

    Args:
        worker_pid: For logs and spans.
        request_timeout_s: Deadline of each request, in seconds.
        on_broken: Called once when what comes from the worker cannot be understood.
    """

    def __init__(self, worker_pid: int, request_timeout_s: float, on_broken: Callable[[FramingError], None]) -> None:
        self.tasks = TaskScope()
        self._worker_pid = worker_pid
        self._request_timeout_s = request_timeout_s
        self._on_broken = on_broken
        self._writer: Writer | None = None
        self._reader = FrameReader()
        self._next_id = 0
        self._pending: dict[int, _Pending] = {}
        self._handlers: dict[str, Handler] = {}
        self._held: dict[str, deque[messages.Notification]] = {}
        self._ended: MafaldaError | None = None
        self._loop = asyncio.get_running_loop()
        self._log = log.bind(worker_pid=worker_pid)

    def attach(self, writer: Writer) -> None:
        """Say where frames to the worker are written."""
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
            handler_id: The object that it is for; empty for the worker itself.
            body: JSON-like, checked against the schema.
            creates: Id of the object that the request makes: its notifications are held until ``subscribe``.
            undo: Sent if the worker grants the request when nobody waits for it any more.

        Raises:
            InvalidParameters: The body does not fit, or the worker says TypeError.
            AlreadyExists: ``creates`` is in use.
            NotFound: The worker knows no such object.
            WorkerRequestFailed: Any other refusal.
            RequestTimeout: No answer in time.
            WorkerClosed: The worker is closed, or closes meanwhile.
            WorkerDied: It died.
        """
        with _tracer.start_as_current_span(
            "mediasoup.request " + _dotted(method),
            kind=trace.SpanKind.CLIENT,
            attributes={"mediasoup.handler_id": handler_id, "mediasoup.worker_pid": self._worker_pid},
        ):
            answer = self._send(method, handler_id, body, creates, undo)
            try:
                return await answer
            except asyncio.CancelledError:
                # Granted and cancelled in the same moment: nobody will know what was made.
                if undo is not None and not answer.cancelled() and answer.exception() is None:
                    self._take_back(method, creates, undo)
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
        if creates is not None and (creates in self._handlers or creates in self._held):
            raise AlreadyExists("the worker has an object with this id already", id=creates)
        self._next_id = self._next_id % (2**32 - 1) + 1
        id_ = self._next_id
        data = frame(messages.encode_request(id_, method, handler_id, body))
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        deadline = self._loop.call_later(self._request_timeout_s, self._expire, id_)
        self._pending[id_] = _Pending(method, handler_id, answer, deadline, creates, undo)
        if creates is not None:
            self._held[creates] = deque(maxlen=MAX_HELD)
        if not writer.is_closing():  # else the worker is dead, and its end, which fails this, is about to be told
            writer.write(data)
        return answer

    def notify(self, event: str, handler_id: str = "", body: Mapping[str, Any] | None = None) -> None:
        """Tell the worker something that it does not answer.

        Raises:
            InvalidParameters: The body does not fit.
            WorkerRequestFailed: The worker does not read; this was not sent.
            WorkerClosed, WorkerDied: There is no worker any more.
        """
        writer = self._open_writer()
        if writer.is_closing():
            raise WorkerDied("the worker died", worker_pid=self._worker_pid)
        unsent_bytes = writer.get_write_buffer_size()
        if unsent_bytes > MAX_UNSENT_BYTES:
            raise WorkerRequestFailed("the worker does not read", unsent_bytes=unsent_bytes)
        writer.write(frame(messages.encode_notification(event, handler_id, body)))

    def subscribe(self, handler_id: str, handler: Handler) -> None:
        """Give the notifications for ``handler_id`` to ``handler``, those that were held first."""
        self._handlers[handler_id] = handler
        if handler_id in self._held:
            self._loop.call_soon(self._release, handler_id)

    def unsubscribe(self, handler_id: str) -> None:
        """Drop the notifications for ``handler_id`` from now on."""
        self._handlers.pop(handler_id, None)
        self._held.pop(handler_id, None)

    def end(self, error: MafaldaError) -> None:
        """Refuse everything from now on and fail what is pending with ``error``."""
        if self._ended is not None:
            return
        self._ended = error
        for pending in self._pending.values():
            pending.deadline.cancel()
            if not pending.answer.done():
                pending.answer.set_exception(_copy(error, pending.method))
                pending.answer.exception()  # whoever gave up must not cause a warning
        self._pending.clear()
        self._handlers.clear()
        self._held.clear()

    def feed(self, data: bytes) -> None:
        """Take bytes that came from the worker."""
        try:
            for payload in self._reader.feed(data):
                self._receive(messages.decode(payload))
        except FramingError as error:
            self._log.error("lost the framing of a worker", action="framing_lost", reason=str(error))
            self._on_broken(error)

    def check_open(self) -> None:
        """Raise what ended the conversation, if something did."""
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
                # Behind the wake-ups of the answers that came before it.
                self._loop.call_soon(self._deliver, message)
            case messages.Log(data):
                level = _LOG_LEVELS.get(data[:1])
                if level is not None:
                    getattr(self._log, level)("worker says", action="worker_log", line=data[1:])
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
                self._take_back(pending.method, pending.creates, pending.undo)
            return
        self._drop_hold(pending.creates)
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
            # Its answer, should it come, is of no use: but an undo has to wait for it.
            self._drop_hold(pending.creates)

    def _take_back(self, method: str, creates: str | None, undo: Undo) -> None:
        if self._ended is None:
            self._log.warning("undoing what nobody waits for", action="request_undone", method=_dotted(method))
            self._drop_hold(creates)
            self._send(*undo).add_done_callback(_retrieve)

    def _drop_hold(self, creates: str | None) -> None:
        if creates is not None and creates not in self._handlers:
            self._held.pop(creates, None)

    def _deliver(self, notification: messages.Notification) -> None:
        held = self._held.get(notification.handler_id)
        if held is not None:
            held.append(notification)
            return
        handler = self._handlers.get(notification.handler_id)
        if handler is None:
            self._log.debug("notification for nobody", action="notification_dropped", name=notification.event)
            return
        try:
            handler(notification.event, notification.body)
        except Exception:
            self._log.exception("notification not understood", action="notification_failed", name=notification.event)

    def _release(self, handler_id: str) -> None:
        for notification in self._held.pop(handler_id, ()):
            self._deliver(notification)


def _dotted(method: str) -> str:
    return method.replace("_", ".", 1).lower()


def _copy(error: MafaldaError, method: str | None) -> MafaldaError:
    """The same error for one more caller: an exception object must not be raised in two places."""
    details = error.details if method is None else error.details | {"method": _dotted(method)}
    return type(error)(error.reason, **details)


def _retrieve(answer: asyncio.Future[dict[str, Any]]) -> None:
    if not answer.cancelled():
        answer.exception()
