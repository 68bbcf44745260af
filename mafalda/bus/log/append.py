"""Append a message to the log so that it is stored once, however often its acknowledgement is lost.

The message's id makes a repetition harmless. nats-server checks the expected sequence *before* it looks for the id, so
a repeated conditional append whose first attempt was stored is answered as a conflict: then the aggregate is searched
for the id before ``Conflict`` is raised.

The repetitions are written out here rather than left to ``aio.retrying``: the deadline of an attempt grows only after
a time-out, a refusal waits a fixed short time, and what a refusal means depends on the expectation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import structlog
from opentelemetry.trace import SpanKind

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, parse_answer
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.log.patterns import to_regex
from mafalda.bus.log.read import last_entry, next_entry
from mafalda.bus.protocol import LOG_FULL, MESSAGE_ID, Appended, Expect
from mafalda.contract.messages.envelope import CONTENT_TYPE, Message, encode
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.errors import BusUnavailable, Conflict, LogFull, MessageTooLarge
from mafalda.telemetry.tracing import current_traceparent, is_recording, span

_log = structlog.get_logger(__name__)

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"

_WRONG_LAST = re.compile(r"wrong last sequence: (\d+)")
_WRONG_LAST_CODE = 10071
_WRONG_LAST_UNNAMED_CODE = 10164  # another append to the aggregate is on its way through the cluster
_TOO_LARGE_CODE = 10054
_DUPLICATE_IN_PROCESS_CODE = 10158  # an earlier attempt with this id is on its way through the cluster
#: Refusals of a log that is full, whatever their text: limits of the account, resources of the server or the cluster,
#: storage of the server, limits of a stream in the account.
_FULL_CODES = (10002, 10023, 10047, 10122)
_STORE_FAILED_CODE = 10077  # its text has the error of the store
_FULL = re.compile(
    r"maximum (bytes|messages) exceeded|no space left on device|insufficient (storage )?resources"
    r"|resource limits exceeded",
    re.IGNORECASE,
)
_RETRY_WAIT_S = 0.1
_MAX_ATTEMPT_S = 4.0

_CAPTURED = to_regex(LOG_SUBJECTS)


def message_headers(message: Message) -> dict[str, str]:
    """The NATS headers of every message that Mafalda publishes; ``traceparent`` is that of this hop."""
    headers = {MESSAGE_ID: message.id, "Content-Type": CONTENT_TYPE}
    if hop := current_traceparent() or message.traceparent:
        headers["traceparent"] = hop
    return headers


def is_captured(subject: str) -> bool:
    """Whether the log captures a subject."""
    return _CAPTURED.fullmatch(subject) is not None


def check_captured(subject: str) -> None:
    """Refuse a subject that no stream would ever acknowledge.

    Raises:
        ValueError: The log does not capture this subject.
    """
    if not is_captured(subject):
        raise ValueError(f"the log does not capture {subject!r}")


async def append(
    connection: Connection, subject: str, message: Message, expect: Expect | None, headers: Mapping[str, str] | None
) -> Appended:
    """See ``Bus.append``."""
    check_captured(subject)
    raw = encode(message)
    sent = {**(headers or {}), **message_headers(message)}
    if expect:
        sent[_EXPECTED] = str(expect.last_seq)
        sent[_EXPECTED_SUBJECT] = expect.filter
    if not is_recording():
        return await _append(connection, subject, raw, sent, message.id, expect)
    attributes = {
        "messaging.system": "nats",
        "messaging.operation.type": "send",
        "messaging.operation.name": message.type,
        "messaging.destination.name": subject,
        "messaging.message.id": message.id,
        "messaging.message.conversation_id": message.correlation,
    }
    parent = None if current_traceparent() else message.traceparent
    with span("log.append", attributes, kind=SpanKind.PRODUCER, traceparent=parent) as opened:
        sent |= message_headers(message)  # this hop's
        appended = await _append(connection, subject, raw, sent, message.id, expect)
        opened.set_attribute("mafalda.stream_seq", appended.seq)
        return appended


async def _append(
    connection: Connection, subject: str, raw: bytes, headers: dict[str, str], message_id: str, expect: Expect | None
) -> Appended:
    is_unconfirmed = object()
    try:
        return await _append_until_confirmed(connection, subject, raw, headers, message_id, expect, is_unconfirmed)
    finally:
        connection.clock.resume(is_unconfirmed)


async def _append_until_confirmed(
    connection: Connection,
    subject: str,
    raw: bytes,
    headers: dict[str, str],
    message_id: str,
    expect: Expect | None,
    is_unconfirmed: object,
) -> Appended:
    """Repeat an append. The connection's clock is stopped for ``is_unconfirmed`` once an attempt has failed."""
    config = connection.config
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.append_timeout_s
    attempt_s = config.append_attempt_s
    reason = "timeout"
    while (left := deadline - loop.time()) > 0:
        try:
            answer = await connection.request(subject, raw, headers=headers, timeout_s=min(left, attempt_s))
            ack = parse_answer(answer.data)
            return Appended(int(ack["seq"]), bool(ack.get("duplicate", False)))
        except Unanswered as unanswered:
            reason = unanswered.reason
            connection.clock.stop(is_unconfirmed)
            if reason == "timeout":
                attempt_s = min(attempt_s * 2, _MAX_ATTEMPT_S)
        except ApiRefused as refused:
            if expect and refused.err_code in (_WRONG_LAST_CODE, _WRONG_LAST_UNNAMED_CODE):
                if appended := await _resolve_conflict(connection, message_id, expect, refused):
                    return appended
                reason = "another append is on its way"
            elif refused.err_code == _TOO_LARGE_CODE:
                raise MessageTooLarge("the log refuses a message of this size", size_bytes=len(raw)) from None
            elif _is_full(refused):
                raise LogFull(LOG_FULL, subject=subject, reason=str(refused)) from None
            elif refused.code == 503 or refused.err_code == _DUPLICATE_IN_PROCESS_CODE:
                reason = str(refused)
                connection.clock.stop(is_unconfirmed)
            else:
                raise BusUnavailable("the log refused a message", subject=subject, reason=str(refused)) from None
        _log.debug("append-repeat", action="append_repeat", subject=subject, message_id=message_id, reason=reason)
        if reason != "timeout":
            await asyncio.sleep(min(_RETRY_WAIT_S, max(left, 0)))
    raise BusUnavailable(
        "the log did not confirm a message", subject=subject, reason=reason, timeout_s=config.append_timeout_s
    )


def _is_full(refused: ApiRefused) -> bool:
    """Whether the log has no room: repeating the append changes nothing until somebody makes some."""
    if refused.err_code in _FULL_CODES:
        return True
    return refused.err_code == _STORE_FAILED_CODE and _FULL.search(refused.description) is not None


async def _resolve_conflict(
    connection: Connection, message_id: str, expect: Expect, refused: ApiRefused
) -> Appended | None:
    """Where the message is, if an earlier attempt stored it; ``None`` if that is not known yet.

    Raises:
        Conflict: Another message was stored first.
    """
    found = _WRONG_LAST.search(refused.description)
    if found:
        actual = int(found[1])
    else:
        last = await last_entry(connection, expect.filter)
        actual = last.seq if last else 0
        if actual == expect.last_seq:
            return None
    seq = expect.last_seq
    while seq < actual:
        entry = await next_entry(connection, expect.filter, seq + 1)
        if entry is None:
            break
        if entry.headers.get(MESSAGE_ID) == message_id:
            return Appended(entry.seq, duplicate=True)
        seq = entry.seq
    raise Conflict("another writer was first", filter=expect.filter, expected=expect.last_seq, actual=actual)
