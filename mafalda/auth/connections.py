"""The end of participants' connections, by NATS' system account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import datetime
from typing import Any

import orjson
import structlog

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer
from mafalda.contract.permissions import PARTICIPANT_ACCOUNT

_log = structlog.get_logger(__name__)

#: Seconds in which the servers of a cluster report their connections.
_REPORT_S = 0.5
#: A connection that was being authorized at the first round is found by a later one.
_ROUNDS = 3
#: Connections that a server reports at once.
_PAGE = 1024


async def end_connections(
    system: Connection, token_ids: Collection[str], *, ended: Callable[[], Awaitable[None]] | None = None
) -> int:
    """Disconnect all connections that were authorized with some tokens, on all servers of the cluster.

    One that comes back meanwhile stays: it was authorized after the call.

    Args:
        system: A connection to NATS' system account.
        token_ids: The users' names, as they were given to NATS when the connections were authorized.
        ended: Called whenever some were ended.

    Returns:
        How many.
    """
    kicked: set[tuple[str, int]] = set()
    since: dict[str, datetime] = {}  # by server, and by its clock: when it reported first
    for _ in range(_ROUNDS):
        async for server, now, clients in _connections(system, frozenset(token_ids)):
            first = since.setdefault(server, now)
            before = len(kicked)
            for number, start in clients:
                if start <= first and (server, number) not in kicked and await _kick(system, server, number):
                    kicked.add((server, number))
            if ended is not None and len(kicked) > before:
                await ended()
    return len(kicked)


async def _kick(system: Connection, server: str, client: int) -> bool:
    try:
        await system.request(f"$SYS.REQ.SERVER.{server}.KICK", orjson.dumps({"cid": client}), timeout_s=_REPORT_S * 4)
    except Unanswered as error:
        _log.warning("kick unanswered", action="kick_unanswered", reason=error.reason)
        return False
    return True


async def _connections(
    system: Connection, names: frozenset[str]
) -> AsyncIterator[tuple[str, datetime, list[tuple[int, datetime]]]]:
    """Of each server of the cluster, in pages: its time, and number and begin of each connection of these users."""
    offset, more = 0, bool(names)
    while more:
        more = False
        async for report in _reports(system, names, offset):
            data = report.get("data", {})
            listed = data.get("connections") or ()
            more = more or len(listed) == _PAGE
            found = [(it["cid"], _time(it["start"])) for it in listed if it.get("authorized_user") in names]
            yield report["server"]["id"], _time(data["now"]), found
        offset += _PAGE


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def _reports(system: Connection, names: frozenset[str], offset: int) -> AsyncIterator[dict[str, Any]]:
    inbox = system.new_inbox()
    buffer = SubscriptionBuffer(1024)
    subscription = await system.subscribe(inbox, buffer)
    try:
        query: dict[str, Any] = {"auth": True, "limit": _PAGE, "offset": offset}
        query |= {"user": next(iter(names))} if len(names) == 1 else {"acc": PARTICIPANT_ACCOUNT}
        await system.publish("$SYS.REQ.SERVER.PING.CONNZ", orjson.dumps(query), reply=inbox)
        deadline = asyncio.get_running_loop().time() + _REPORT_S
        while (left := deadline - asyncio.get_running_loop().time()) > 0 and await buffer.wait(left):
            item = buffer.pop()
            if isinstance(item, BufferedMessage):
                yield orjson.loads(item.message.data)
    finally:
        await system.unsubscribe(subscription)
