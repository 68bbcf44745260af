"""Asking: an intent goes into the log, its result comes back on our own subjects.

The answer is matched by ``causationid``. What a stored result does not hold (ICE passwords) comes to
the client's inbox; if that message was missed, the agent is asked again. What does not belong here:
what to ask for (``session``, ``endpoint``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from opentelemetry.trace import SpanKind

from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Bus
from mafalda.client.config import ClientConfig
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.intents import CreateTransport, Intent, Join, RestartIce
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import Query, QueryTransport
from mafalda.contract.messages.results import JoinResult, Rejected, TransportResult
from mafalda.errors import DeadlineExceeded, MalformedMessage
from mafalda.telemetry.tracing import span

P = TypeVar("P", bound=Payload)

_log = structlog.get_logger(__name__)


class Asker:
    """Asks for one peer of one room."""

    def __init__(self, bus: Bus, reply_subject: str, room: str, peer: str, config: ClientConfig) -> None:
        self._bus = bus
        self._reply_subject = reply_subject
        self._config = config
        self._source = f"/mafalda/client/{room}/{peer}"
        self._asked: dict[str, _Pending] = {}
        self.room = room
        self.peer = peer

    async def ask(self, intent: Intent, expected: type[P], *, timeout_s: float | None = None) -> P:
        """Append an intent and await its result; again and again with the same id while there is none.

        Raises:
            MafaldaError: The error of a ``Rejected``, as its own class.
            DeadlineExceeded: No result in time.
            BusUnavailable: The intent could not be stored.
            PermissionDenied: This credential may not publish intents of this peer.
        """
        with self._pending(intent, timeout_s) as pending:
            return _as_expected(await self._answer(pending), expected)

    async def ask_transport(self, intent: CreateTransport | RestartIce) -> TransportResult:
        """As ``ask``, for what has an ICE password in its result: the answer in the inbox counts."""
        with self._pending(intent, None) as pending:
            answer = _as_expected(await self._answer(pending), TransportResult)
            if answer.ice_parameters is None:
                answer = await self._missing_secret(pending, intent.transport)
            return answer

    async def query(self, query: Query, expected: type[P]) -> P:
        """Ask the agent something that changes nothing.

        Raises:
            MafaldaError: What the agent answered.
            DeadlineExceeded: No answer in time.
        """
        subject = subjects.query(self.room, self.peer, query.action)
        message = compose(query, subject=subject, source=self._source)
        answer = await self._bus.request(subject, message, timeout_s=self._config.request_timeout_s)
        return _as_expected(answer.data, expected)

    def hear(self, message: Message) -> None:
        """Take a result from the log. Those of nobody's question (an earlier client's) are passed over."""
        pending = self._asked.get(message.causationid or "")
        if pending is None and _answers_join(message.data):
            pending = self._asked.get(message.correlation)  # it is caused by the placement, which the join led to
        if pending and not pending.result.done():
            pending.result.set_result(message.data)

    def hear_secret(self, message: Message) -> None:
        """Take what came to the inbox."""
        pending = self._asked.get(message.causationid or "")
        if pending and not pending.secret.done():
            pending.secret.set_result(message.data)

    @contextmanager
    def _pending(self, intent: Intent, timeout_s: float | None) -> Iterator[_Pending]:
        """A question that is listened for, inside its span."""
        subject = subjects.intent(self.room, self.peer, intent.action)
        attributes = {"mafalda.room": self.room, "mafalda.peer": self.peer}
        with span(f"client.{intent.action}", attributes, kind=SpanKind.CLIENT):
            loop = asyncio.get_running_loop()
            pending = _Pending(
                message=compose(intent, subject=subject, source=self._source),
                subject=subject,
                result=loop.create_future(),
                secret=loop.create_future(),
                timeout_s=timeout_s or self._config.request_timeout_s,
            )
            self._asked[pending.message.id] = pending
            try:
                yield pending
            finally:
                del self._asked[pending.message.id]

    async def _answer(self, pending: _Pending) -> Payload:
        try:
            async with asyncio.timeout(pending.timeout_s):
                while True:
                    headers = {REPLY_HEADER: self._reply_subject}
                    await self._bus.append(pending.subject, pending.message, headers=headers)
                    answers = (pending.secret, pending.result)  # the inbox's answer is the fuller one
                    await asyncio.wait(
                        answers, timeout=self._config.retry_interval_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for answer in answers:
                        if answer.done():
                            return answer.result()
                    _log.info("no result yet", action="client.retry", subject=pending.subject)
        except TimeoutError:
            raise DeadlineExceeded("no answer in time", subject=pending.subject, timeout_s=pending.timeout_s) from None

    async def _missing_secret(self, pending: _Pending, transport: str) -> TransportResult:
        await asyncio.wait([pending.secret], timeout=self._config.secrets_wait_s)
        if pending.secret.done():
            return _as_expected(pending.secret.result(), TransportResult)
        _log.info("asking again for ICE parameters", action="client.query-transport", transport_id=transport)
        return await self.query(QueryTransport(transport=transport), TransportResult)


@dataclass(frozen=True, slots=True)
class _Pending:
    message: Message
    subject: str
    result: asyncio.Future[Payload]
    secret: asyncio.Future[Payload]
    timeout_s: float


def _as_expected(answer: Payload, expected: type[P]) -> P:
    if isinstance(answer, Rejected):
        raise answer.error.to_error()
    if not isinstance(answer, expected):
        raise MalformedMessage("unexpected answer", type=answer.type_name(), expected=expected.type_name())
    return answer


def _answers_join(payload: Payload) -> bool:
    return isinstance(payload, JoinResult) or (isinstance(payload, Rejected) and payload.intent == Join.action)
