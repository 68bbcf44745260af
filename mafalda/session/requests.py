"""Requests of peers: an intent is appended to the log, its result is awaited, and every request has a deadline.

An intent's result is on the peer's own result subject. It is matched by ``causationid``, the intent's id. What the log
must not store (ICE passwords, answers of workers) is in the same result as the agent sends it to the private inbox that
the intent names. Whichever comes first and is complete is the outcome.

All times are counted by the bus's clock: while there is no bus, no request runs out of time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from mafalda.aio.clock import ClockTimer
from mafalda.aio.tasks import TaskScope
from mafalda.bus.compose import compose
from mafalda.bus.protocol import GENERATION_HEADER, REPLY_HEADER, PeerBus
from mafalda.contract import subjects
from mafalda.contract.batches import read_result
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.intents import Intent, IntentBatch, Join
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import Query
from mafalda.contract.messages.results import JoinResult, Rejected, ResultBatch
from mafalda.errors import (
    BadInput,
    BusUnavailable,
    DeadlineExceeded,
    MafaldaError,
    MalformedMessage,
    UnknownType,
    UnknownVersion,
)
from mafalda.session.flights import Flight, IntentFlights

P = TypeVar("P", bound=Payload)
T = TypeVar("T")
#: The answer to a request, or why there is none.
Outcome = Payload | MafaldaError
OnOutcome = Callable[[Outcome], None]

#: Between two attempts while there is no bus, in seconds.
_NO_BUS_PAUSE_S = 0.2
#: Refusals of a batch by servers that know no batches.
_BATCH_UNKNOWN = (UnknownType.code, UnknownVersion.code)

_log = structlog.get_logger(__name__)


class PrivateAnswers(Protocol):
    """What stored results lack, and where to get it when the message to the private inbox was lost."""

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        """Whether the result of an intent is usable as the log has it."""

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        """The complete answer behind an incomplete stored result.

        Raises:
            MafaldaError: It cannot be had any more.
        """


class NothingPrivate:
    """``PrivateAnswers`` of who sends only intents without private answers."""

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        return True

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        raise AssertionError("every stored result is complete")


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """Limits of a request, in seconds."""

    #: From the append to the outcome, where the caller names no other limit.
    timeout_s: float = 15.0
    #: Until an intent without a result is appended again, with the same id.
    retry_interval_s: float = 2.0
    #: From an incomplete stored result until it is recovered.
    inbox_wait_s: float = 1.0
    #: For the answer to one query.
    query_timeout_s: float = 15.0


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """An intent without an outcome."""

    room: str
    peer: str
    message: Message
    on_outcome: OnOutcome
    timeout_s: float
    deadline: float  # by the bus's clock
    headers: dict[str, str]
    stored: Payload | None = None  # an incomplete result
    is_recovering: bool = False
    flight: Flight | None = None  # in which it was appended
    timer: ClockTimer | None = None

    @property
    def subject(self) -> str:
        return self.message.subject or ""

    @property
    def batch_id(self) -> str | None:
        batch = self.flight.batch if self.flight else None
        return batch.id if batch else None


class RequestClient:
    """Sends intents and queries of any number of peers.

    Args:
        bus: Where they are published.
        tasks: Owns what runs in the background: repeated appends, recoveries.
        reply_subject: The private inbox. Its owner passes what comes there to ``take_private``. ``None``: there is
            none, for who sends only intents without private answers.
        source: The CloudEvents source of the messages.
        answers: What stored results lack.
        times: Limits.
    """

    def __init__(
        self,
        bus: PeerBus,
        tasks: TaskScope,
        reply_subject: str | None,
        source: str,
        answers: PrivateAnswers,
        times: RequestTimes,
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._headers = {REPLY_HEADER: reply_subject} if reply_subject is not None else {}
        self._source = source
        self._answers = answers
        self._times = times
        self._pending: dict[str, _PendingRequest] = {}
        self._flights = IntentFlights(bus, tasks, source)

    # --- requests -------------------------------------------------------------------------------------

    async def submit(
        self, room: str, peer: str, intent: Intent, on_outcome: OnOutcome, *, timeout_s: float | None = None
    ) -> str:
        """Append an intent; return its id as soon as it is in the log.

        What is requested for a peer before control returns to the event loop is appended as one message, in the order
        of the calls (``mafalda.session.flights``). While there is no result it is appended again with the same id, so
        that it is stored once.

        Args:
            room: The peer's room.
            peer: The peer whose intent it is.
            intent: What it asks for.
            on_outcome: Called exactly once, at the moment in which the outcome arrives: what the inbox delivers next
                is not handled before. It may be called before this returns.
            timeout_s: Until the outcome is ``DeadlineExceeded``.

        Raises:
            MafaldaError: The intent could not be stored; ``on_outcome`` is not called.
        """
        pending = self._start(room, peer, intent, on_outcome, timeout_s)
        try:
            await self._append(pending)
        except BaseException as error:
            was_pending = self._forget(pending)
            if was_pending or not isinstance(error, MafaldaError):
                raise
        return pending.message.id

    async def request(
        self,
        room: str,
        peer: str,
        intent: Intent,
        expected: type[P],
        *,
        timeout_s: float | None = None,
        stored: Callable[[], None] | None = None,
        id: str | None = None,
        generation: int | None = None,
    ) -> P:
        """As ``submit``, and await the outcome. Without a bus, the intent is appended as soon as there is one.

        Args:
            room: The peer's room.
            peer: The peer whose intent it is.
            intent: What it asks for.
            expected: The class of its result.
            timeout_s: Until ``DeadlineExceeded``.
            stored: Called when the intent is in the log: what is appended from then on comes after it.
            id: Of the intent, unique in the whole log, where it may be requested again; ``None``: a new one. One
                request at a time may have it.
            generation: Of the only place of the peer that it is meant for; ``None``: of whichever is present.

        Raises:
            MafaldaError: The error of a ``Rejected``, as its own class.
            DeadlineExceeded: No result in time, counted while there was a bus.
            BusUnavailable: The intent could not be stored although there is a bus.
            PermissionDenied: This credential may not publish intents of this peer.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def resolve(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        pending = self._start(room, peer, intent, resolve, timeout_s, id, generation)
        try:
            async with self._bus.clock.timeout(pending.timeout_s):
                await self._through_outages(lambda: self._append(pending))
                if stored is not None:
                    stored()
                return as_expected(await future, expected)
        except TimeoutError:
            raise _no_answer(pending) from None
        finally:
            self._forget(pending)

    async def query(
        self, room: str, peer: str, query: Query, expected: type[P], *, timeout_s: float | None = None
    ) -> P:
        """Request something of a peer's agent that changes nothing and is not stored.

        Raises:
            MafaldaError: The error that the agent answered, as its own class.
            DeadlineExceeded: No answer in time, counted while there was a bus.
        """
        subject = subjects.query(room, peer, query.action)
        message = compose(query, subject=subject, source=self._source)
        limit_s = timeout_s or self._times.query_timeout_s
        answer = await self._through_outages(lambda: self._bus.request(subject, message, timeout_s=limit_s))
        return as_expected(answer.data, expected)

    async def _through_outages(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds, or fails although there was a bus all the time."""
        clock = self._bus.clock
        while True:
            stops, had_bus = clock.stops, clock.is_running
            try:
                return await attempt()
            except (BusUnavailable, DeadlineExceeded):
                if had_bus and clock.is_running and clock.stops == stops:
                    raise
            await asyncio.sleep(_NO_BUS_PAUSE_S)

    # --- answers --------------------------------------------------------------------------------------

    def take_stored(self, message: Message) -> bool:
        """Take a result from the log, or several; ``False`` if none belongs to a pending request."""
        if isinstance(message.data, ResultBatch):
            found = self._of_pending(message)
            for result in found:
                self._take_stored(result)
            return bool(found)
        if isinstance(message.data, Rejected) and message.data.intent == IntentBatch.action:
            return self._batch_rejected(message)
        return self._take_stored(message)

    def take_private(self, message: Message) -> bool:
        """Take an answer from the private inbox, or several; ``False`` if none belongs to a pending request."""
        if isinstance(message.data, ResultBatch):
            found = self._of_pending(message)
            for result in found:
                self.take_private(result)
            return bool(found)
        pending = self._pending.get(message.causationid or "")
        if pending is None:
            return False
        self._resolve(pending, message.data)
        return True

    def _of_pending(self, message: Message) -> list[Message]:
        """The results of a batch that belong to pending requests; the others are not even read."""
        if not isinstance(message.data, ResultBatch):
            return []
        found = []
        for item in message.data.items:
            if item.causationid not in self._pending:
                continue
            try:
                own = {"causationid": item.causationid, "type": item.type, "data": read_result(item)}
            except BadInput as error:
                _log.warning("unreadable", action="result_unreadable", type=item.type, reason=str(error))
            else:
                found.append(message.model_copy(update=own))
        return found

    def _take_stored(self, message: Message) -> bool:
        pending = self._pending.get(message.causationid or "")
        if pending is None and _answers_join(message.data):
            # It is caused by the placement command, which correlates with the join.
            pending = self._pending.get(message.correlation)
        if pending is None:
            return False
        result = message.data
        if isinstance(result, Rejected) or self._answers.is_complete(pending.message.data, result):
            self._resolve(pending, result)
        elif pending.stored is None:
            pending.stored = result
            self._arm(pending, self._times.inbox_wait_s)
        return True

    def _batch_rejected(self, message: Message) -> bool:
        """A batch was refused as a whole: so is each of its intents, unless the servers are older than batches."""
        refused = [it for it in self._pending.values() if it.batch_id == message.causationid]
        if isinstance(message.data, Rejected) and message.data.error.code in _BATCH_UNKNOWN:
            self._flights.stop_batching()
            for pending in refused:
                self._tasks.spawn(self._append_again(pending), f"append again {pending.message.id}")
            return bool(refused)
        for pending in refused:
            self._resolve(pending, message.data)
        return bool(refused) or self._take_stored(message)

    # --- pending requests -----------------------------------------------------------------------------

    def _start(
        self,
        room: str,
        peer: str,
        intent: Intent,
        on_outcome: OnOutcome,
        timeout_s: float | None,
        id: str | None = None,
        generation: int | None = None,
    ) -> _PendingRequest:
        limit_s = timeout_s or self._times.timeout_s
        message = compose(intent, subject=subjects.intent(room, peer, intent.action), source=self._source, id=id)
        deadline = self._bus.clock.time() + limit_s
        headers = dict(self._headers)
        if generation is not None:
            headers[GENERATION_HEADER] = str(generation)
        pending = _PendingRequest(room, peer, message, on_outcome, limit_s, deadline, headers)
        self._pending[message.id] = pending
        self._arm(pending, self._times.retry_interval_s)
        return pending

    async def _append(self, pending: _PendingRequest) -> None:
        if pending.flight is not None:
            await self._flights.append_again(pending.flight, pending.message)
            return
        pending.flight = self._flights.add(pending.room, pending.peer, pending.message, pending.headers)
        await pending.flight.stored(pending.message.id)

    def _arm(self, pending: _PendingRequest, after_s: float) -> None:
        """Look at the request after so many seconds, or at its deadline if that is earlier."""
        if pending.timer is not None:
            pending.timer.cancel()
        clock = self._bus.clock
        at = min(clock.time() + after_s, pending.deadline)
        pending.timer = clock.call_at(at, lambda: self._on_timer(pending))

    def _on_timer(self, pending: _PendingRequest) -> None:
        if self._bus.clock.time() >= pending.deadline:
            self._resolve(pending, _no_answer(pending))
        elif pending.stored is None:
            self._tasks.spawn(self._append_again(pending), f"append again {pending.message.id}")
            self._arm(pending, self._times.retry_interval_s)
        elif not pending.is_recovering:
            pending.is_recovering = True
            self._tasks.spawn(self._recover(pending, pending.stored), f"recover {pending.message.id}")
            self._arm(pending, pending.timeout_s)

    async def _append_again(self, pending: _PendingRequest) -> None:
        _log.debug("no result yet", action="request_retry", subject=pending.subject, message_id=pending.message.id)
        try:
            await self._append(pending)
        except MafaldaError as error:  # it is stored since the first append; its result may still come
            _log.debug("not appended again", action="request_retry", subject=pending.subject, reason=str(error))

    async def _recover(self, pending: _PendingRequest, stored: Payload) -> None:
        _log.info("recovering an answer", action="request_recover", subject=pending.subject)
        try:
            outcome: Outcome = await self._answers.recover(pending.room, pending.peer, pending.message.data, stored)
        except MafaldaError as error:
            outcome = error
        self._resolve(pending, outcome)

    def _resolve(self, pending: _PendingRequest, outcome: Outcome) -> None:
        if self._forget(pending):
            pending.on_outcome(outcome.error.to_error() if isinstance(outcome, Rejected) else outcome)

    def _forget(self, pending: _PendingRequest) -> bool:
        """End a request; whether it was pending until now."""
        if pending.timer is not None:
            pending.timer.cancel()
        return self._pending.pop(pending.message.id, None) is not None


def as_expected(outcome: Outcome, expected: type[P]) -> P:
    """The outcome as a payload of this class.

    Raises:
        MafaldaError: The outcome is an error, or it is a payload of another class.
    """
    if isinstance(outcome, Rejected):
        raise outcome.error.to_error()
    if isinstance(outcome, MafaldaError):
        raise outcome
    if not isinstance(outcome, expected):
        raise MalformedMessage("unexpected answer", type=outcome.type_name(), expected=expected.type_name())
    return outcome


def _no_answer(pending: _PendingRequest) -> DeadlineExceeded:
    return DeadlineExceeded("no answer in time", subject=pending.subject, timeout_s=pending.timeout_s)


def _answers_join(payload: Payload) -> bool:
    return isinstance(payload, JoinResult) or (isinstance(payload, Rejected) and payload.intent == Join.action)
