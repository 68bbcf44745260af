"""Read what a stream holds, in order and to the end, by an own pull loop on a plain subscription.

A consumer can fall silent for good when a server stops, and a message on its way can be lost, so the reader watches
its own progress: consumer sequences without a hole, and something coming at all; else it makes a new consumer just
after what it has. (nats-py's ``fetch`` costs a task a message, its ordered consumer can stall.)

What does not belong here: what comes later (``follower``).
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import orjson
import structlog
from nats.aio.msg import Msg

from mafalda.bus.log.patterns import PatternSet, cover
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM
from mafalda.bus.nats.connection import Connection
from mafalda.bus.nats.jetstream import ApiRefused, call, parse_headers
from mafalda.bus.nats.subscription_buffer import Arrivals, Arrived, to_delivery
from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import LOAD_SUBJECTS
from mafalda.errors import BusUnavailable, PermissionDenied

_log = structlog.get_logger(__name__)

#: Messages asked for at once; the next batch is asked for when half of it has come.
BATCH = 1000
#: Seconds without a message that must come, until the consumer is given up.
STALL_S = 2.0
#: A consumer with several filters costs nats-server (2.15.1) 250 to 350 µs an entry where they take many of them; with
#: one filter or none 10 µs. So above this share of a stretch of the log everything is read and looked at here.
_DENSE_RATIO = 0.1
#: In a stretch this short it makes no difference.
_FEW = 200
#: Seconds after which a server forgets a consumer whose reader died.
_INACTIVE_S = 30
_NS = 1_000_000_000


class _Stalled(Exception):
    """This consumer gives no more; another one may."""


async def read_log(
    connection: Connection,
    patterns: Sequence[str],
    *,
    after_seq: int,
    up_to_seq: int | None,
    headers_only: bool = False,
) -> AsyncGenerator[Delivery, None]:
    """Entries of the log in order, from just after ``after_seq`` to ``up_to_seq`` (``None``: the end as of now).

    With ``headers_only`` they come without their data.

    Raises:
        BusUnavailable: No progress within ``append_timeout_s``.
        PermissionDenied: This credential may not read the log.
    """
    end = await last_seq(connection) if up_to_seq is None else up_to_seq
    filters = cover(patterns)
    wanted = None if [*dict.fromkeys(patterns)] == filters else PatternSet(patterns)
    position = after_seq
    patience = _Patience(connection)
    while position < end:
        settings = {"deliver_policy": "by_start_sequence", "opt_start_seq": position + 1, "filter_subjects": filters}
        settings["headers_only"] = headers_only
        if len(filters) > 1 and end - position > _FEW:
            pending = await _count(connection, settings)
            if pending == 0:
                return
            if pending > (end - position) * _DENSE_RATIO:
                settings["filter_subjects"], wanted = [], PatternSet(patterns)
        try:
            async with aclosing(_pull(connection, LOG_STREAM, settings)) as messages:
                async for message, seq in messages:
                    if seq > end:
                        return
                    position = seq
                    if wanted is None or wanted.takes(message.subject):
                        yield to_delivery(message, seq)
                    if seq == end:
                        return
            return
        except _Stalled as stalled:
            await patience.wait(position, str(stalled))


async def latest_loads(connection: Connection) -> list[Delivery]:
    """The last message on each subject of the load stream."""
    patience = _Patience(connection)
    while True:
        found: dict[str, Delivery] = {}
        try:
            settings = {"deliver_policy": "last_per_subject", "filter_subjects": list(LOAD_SUBJECTS)}
            async with aclosing(_pull(connection, LOAD_STREAM, settings)) as messages:
                async for message, _ in messages:
                    found[message.subject] = to_delivery(message)
            return list(found.values())
        except _Stalled as stalled:
            await patience.wait(0, str(stalled))


async def last_seq(connection: Connection) -> int:
    """The log's last sequence, from its leader: whatever was acknowledged before is counted."""
    return int((await _info(connection))["state"]["last_seq"])


async def last_entry(connection: Connection, subject: str) -> Delivery | None:
    """The last entry on a subject or pattern, from the log's leader."""
    return await _get(connection, {"last_by_subj": subject})


async def next_entry(connection: Connection, subject: str, from_seq: int) -> Delivery | None:
    """The first entry on a subject or pattern at or after a sequence, from the log's leader."""
    return await _get(connection, {"seq": max(from_seq, 1), "next_by_subj": subject})


async def _get(connection: Connection, query: dict[str, Any]) -> Delivery | None:
    try:
        found = (await call(connection, f"STREAM.MSG.GET.{LOG_STREAM}", query))["message"]
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_MESSAGE:
            return None
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None
    data = b64decode(found.get("data", ""))
    return Delivery(found["subject"], data, int(found["seq"]), None, parse_headers(found.get("hdrs")))


async def _info(connection: Connection) -> dict[str, Any]:
    try:
        return await call(connection, f"STREAM.INFO.{LOG_STREAM}")
    except ApiRefused as refused:
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None


class _Patience:
    """How long to go on without progress."""

    def __init__(self, connection: Connection) -> None:
        self._limit_s = connection.config.append_timeout_s
        self._position = -1
        self._since_s = 0.0

    async def wait(self, position: int, reason: str) -> None:
        """Before another try; raises when there was no progress for too long."""
        now = asyncio.get_running_loop().time()
        if position != self._position:
            self._position, self._since_s = position, now
        elif now - self._since_s > self._limit_s:
            raise BusUnavailable("a stream cannot be read", position=position, reason=reason)
        _log.warning("reader-stalled", action="reader-stalled", stream_seq=position, reason=reason)
        await asyncio.sleep(0.1)


async def _pull(connection: Connection, stream: str, settings: dict[str, Any]) -> AsyncGenerator[tuple[Msg, int], None]:
    """All messages of one ephemeral consumer, with their sequences, until none is pending.

    Raises:
        _Stalled: It fell silent, skipped something, or went away.
    """
    name, pending = await _create_consumer(connection, stream, settings)
    arrivals = Arrivals(limit=4 * BATCH)
    inbox = connection.new_inbox()
    tapped = await connection.subscribe(inbox, arrivals)
    request = orjson.dumps({"batch": BATCH, "expires": 5 * _NS})
    try:
        asked, delivered = 0, 0
        while pending:
            if asked - delivered <= BATCH // 2:
                await connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", request, reply=inbox)
                asked += BATCH
            if not await arrivals.wait(STALL_S):
                raise _Stalled("silence")
            while (item := arrivals.pop()) is not None and pending:
                if isinstance(item, PermissionDenied):
                    raise item
                if not isinstance(item, Arrived):
                    raise _Stalled(item.value)
                message = item.message
                if not message.reply:
                    asked = delivered = _ended(message, delivered)
                    continue
                seq, consumer_seq, pending = _positions(message.reply)
                delivered += 1
                if consumer_seq != delivered:
                    raise _Stalled(f"skipped from {delivered} to {consumer_seq}")
                yield message, seq
    except BusUnavailable as error:  # a publish while disconnected
        raise _Stalled(str(error)) from None
    finally:
        await connection.unsubscribe(tapped)
        await _forget(connection, stream, name)


async def _count(connection: Connection, settings: dict[str, Any]) -> int:
    """How many entries a consumer would give."""
    name, pending = await _create_consumer(connection, LOG_STREAM, settings)
    await _forget(connection, LOG_STREAM, name)
    return pending


async def _forget(connection: Connection, stream: str, name: str) -> None:
    with suppress(BusUnavailable):  # then the server forgets it by itself
        await connection.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"")


async def _create_consumer(connection: Connection, stream: str, settings: dict[str, Any]) -> tuple[str, int]:
    config = {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _INACTIVE_S * _NS,
        "max_waiting": 16,
        **settings,
    }
    try:
        made = await call(connection, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
    except ApiRefused as refused:
        raise BusUnavailable("a stream cannot be read", stream=stream, reason=str(refused)) from None
    return made["name"], made["num_pending"]


def _ended(message: Msg, delivered: int) -> int:
    """A status instead of a message: the pull is over (404, 408) or the consumer is (409)."""
    status = (message.headers or {}).get("Status", "")
    if status not in ("404", "408"):
        raise _Stalled(f"status {status}")
    return delivered


def _positions(reply: str) -> tuple[int, int, int]:
    """Stream sequence, consumer sequence and what is pending, from ``$JS.ACK.…`` with or without a domain."""
    tokens = reply.split(".")
    if len(tokens) == 9:
        return int(tokens[5]), int(tokens[6]), int(tokens[8])
    return int(tokens[7]), int(tokens[8]), int(tokens[10])
