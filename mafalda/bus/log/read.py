"""Read the log and the load stream, in order and to the end.

In a cluster a consumer lives on one replica, which may not have everything yet that was acknowledged. So "none pending"
is not believed: the stream's leader is asked whether there is a further entry, and if so, the read goes on.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import structlog

from mafalda.aio.tasks import gather_or_cancel
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call, parse_headers
from mafalda.bus.connection.subscription_buffer import to_delivery
from mafalda.bus.log.consumer import Consumer, ConsumerLost, create_consumer, delete_consumer, pull
from mafalda.bus.log.patterns import PatternSet, cover
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM
from mafalda.bus.protocol import Delivery, LogUsage
from mafalda.contract.subjects import LOAD_SUBJECTS
from mafalda.errors import BusUnavailable

_log = structlog.get_logger(__name__)

#: A consumer with several filters costs nats-server (2.15.1) 250 to 350 µs an entry where they take many of them; with
#: one filter or none 10 µs. So above this share of a stretch of the log everything is read and filtered here.
_DENSE_RATIO = 0.1
#: In a stretch of so few entries it makes no difference.
_FEW = 200
#: How many questions to the stream's leader are under way at once.
_LEADER_REQUESTS = 32


async def read_log(
    connection: Connection,
    patterns: Sequence[str],
    *,
    after_seq: int,
    up_to_seq: int | None,
    headers_only: bool = False,
    takes: Callable[[str], bool] | None = None,
) -> AsyncGenerator[Delivery, None]:
    """Entries of the log in order, from just after ``after_seq`` to ``up_to_seq``; every acknowledged one is there.

    Args:
        connection: Where.
        patterns: The subjects to read.
        after_seq: The sequence before the first entry.
        up_to_seq: The last sequence; ``None``: the end as of now.
        headers_only: Leave out the entries' data.
        takes: Whether a subject is one of ``patterns``, if the caller has a faster way than to build a ``PatternSet``.

    Raises:
        BusUnavailable: No progress within ``append_timeout_s``; what was yielded is complete as far as it goes.
        PermissionDenied: This credential may not read the log.
    """
    end = await last_seq(connection) if up_to_seq is None else up_to_seq
    filters = cover(patterns)
    is_exact = [*dict.fromkeys(patterns)] == filters
    takes = takes or PatternSet(patterns).takes
    position = after_seq
    progress = _Progress(connection)
    while position < end:
        settings: dict[str, Any] = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": position + 1,
            "filter_subjects": filters,
            "headers_only": headers_only,
        }
        consumer = await create_consumer(connection, LOG_STREAM, settings)
        if len(filters) > 1 and end - position > _FEW and consumer.pending > (end - position) * _DENSE_RATIO:
            await delete_consumer(connection, consumer)
            is_exact = False
            consumer = await create_consumer(connection, LOG_STREAM, {**settings, "filter_subjects": []})
        try:
            async with aclosing(pull(connection, consumer)) as messages:
                async for message, seq in messages:
                    if seq > end:
                        return
                    position = seq
                    if is_exact or takes(message.subject):
                        yield to_delivery(message, seq)
                    if seq == end:
                        return
            if await _is_complete(connection, consumer, filters, position, end):
                return
            reason = "the consumer's replica lags"
        except ConsumerLost as lost:
            reason = str(lost)
        finally:
            await delete_consumer(connection, consumer)
        await progress.wait(position, reason)


async def latest_loads(connection: Connection) -> list[Delivery]:
    """The last stored message on each subject of the load stream."""
    progress = _Progress(connection)
    while True:
        found: dict[str, Delivery] = {}
        settings = {"deliver_policy": "last_per_subject", "filter_subjects": list(LOAD_SUBJECTS)}
        consumer = await create_consumer(connection, LOAD_STREAM, settings)
        try:
            async with aclosing(pull(connection, consumer)) as messages:
                async for message, _ in messages:
                    found[message.subject] = to_delivery(message)
            return list(found.values())
        except ConsumerLost as lost:
            await progress.wait(0, str(lost))
        finally:
            await delete_consumer(connection, consumer)


async def last_seq(connection: Connection) -> int:
    """The log's last sequence, from its leader: it counts whatever was acknowledged before."""
    try:
        info = await call(connection, f"STREAM.INFO.{LOG_STREAM}")
    except ApiRefused as refused:
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None
    return int(info["state"]["last_seq"])


async def bounds(connection: Connection) -> tuple[int, int]:
    """The log's first and last sequence, from its leader; of an empty log the first is that of the next entry."""
    try:
        state = (await call(connection, f"STREAM.INFO.{LOG_STREAM}"))["state"]
    except ApiRefused as refused:
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None
    return int(state["first_seq"]) or 1, int(state["last_seq"])


async def log_usage(connection: Connection) -> LogUsage:
    """What the log holds, and the limits of its stream."""
    try:
        info = await call(connection, f"STREAM.INFO.{LOG_STREAM}")
    except ApiRefused as refused:
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None
    state, config = info["state"], info["config"]
    return LogUsage(
        entries=int(state["messages"]),
        bytes=int(state["bytes"]),
        limit_entries=_limit(config.get("max_msgs")),
        limit_bytes=_limit(config.get("max_bytes")),
        first_seq=int(state["first_seq"]) or 1,
        last_seq=int(state["last_seq"]),
        as_of=datetime.fromisoformat(info["ts"]) if "ts" in info else None,
    )


def _limit(value: int | None) -> int | None:
    """A limit of a stream; JetStream writes -1 where there is none."""
    return value if value is not None and value > 0 else None


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


async def _is_complete(
    connection: Connection, consumer: Consumer, filters: Sequence[str], position: int, end: int
) -> bool:
    """Whether a consumer with nothing pending has delivered all up to ``end``; in a cluster the leader knows."""
    if not consumer.is_clustered:
        return True  # its server has the only copy
    for first in range(0, len(filters), _LEADER_REQUESTS):
        some = filters[first : first + _LEADER_REQUESTS]
        entries = await gather_or_cancel(next_entry(connection, subject, position + 1) for subject in some)
        if any(entry is not None and entry.seq <= end for entry in entries):
            return False
    return True


class _Progress:
    """Paces repeated reads and ends them when they get nowhere.

    Not by ``aio.retrying``: the deadline begins anew with each entry read, and the attempts are parts of one generator.
    """

    _FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.5

    def __init__(self, connection: Connection) -> None:
        self._limit_s = connection.config.append_timeout_s
        self._position = -1
        self._since_s = 0.0
        self._wait_s = self._FIRST_WAIT_S

    async def wait(self, position: int, reason: str) -> None:
        """Wait before the next attempt, longer each time.

        Args:
            position: The last sequence that was read.
            reason: Why another attempt is needed.

        Raises:
            BusUnavailable: ``position`` has stood still for ``append_timeout_s``.
        """
        now = asyncio.get_running_loop().time()
        if position != self._position:
            self._position, self._since_s, self._wait_s = position, now, self._FIRST_WAIT_S
        elif now - self._since_s > self._limit_s:
            raise BusUnavailable("a stream cannot be read to its end", position=position, reason=reason)
        _log.warning("read-repeated", action="read_repeated", stream_seq=position, reason=reason)
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(self._wait_s * 2, self._LONGEST_WAIT_S)
