"""What the auth service keeps in a stream of its own (revoked tokens, granted peers), and the end of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import structlog

from mafalda.auth.tokens import LEEWAY_S, MAX_LIFE_S, Token
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call, parse_answer
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer
from mafalda.bus.log.streams import LOG_STREAM, differences
from mafalda.contract.grants import Grants
from mafalda.contract.permissions import AUTH_PREFIX, AUTH_STREAM, REVOKED, granted_subject
from mafalda.errors import BusUnavailable

_log = structlog.get_logger(__name__)

#: Seconds in which the servers of a cluster report their connections.
_REPORT_S = 0.5
#: A connection that was being authorized when its token was revoked is found by a later round.
_ROUNDS = 3


async def ensure_auth_stream(connection: Connection) -> None:
    """Create the stream of revocations, or update what differs, with as many replicas as the log has at least.

    No participant gets in while the stream has no leader, and a revocation is as durable as its replicas. An entry
    outlives every token that it may be about.

    Raises:
        BusUnavailable: JetStream did not answer, or refused the stream.
    """
    wanted: dict[str, Any] = {
        "name": AUTH_STREAM,
        "description": "Revoked tokens, and what each peer was granted.",
        "subjects": [f"{REVOKED}*", f"{AUTH_PREFIX}peer.*.*"],
        "storage": "file",
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "max_age": (MAX_LIFE_S + 2 * LEEWAY_S) * 1_000_000_000,
    }
    try:
        log = await _config_of(connection, LOG_STREAM)
        replicas = connection.config.replicas or (log or {}).get("num_replicas", 1)
        found = await _config_of(connection, AUTH_STREAM)
        if found is None:
            try:
                await call(connection, f"STREAM.CREATE.{AUTH_STREAM}", {**wanted, "num_replicas": replicas})
                return
            except ApiRefused as refused:
                if refused.err_code != ApiRefused.NAME_IN_USE:
                    raise
            found = await _config_of(connection, AUTH_STREAM) or {}  # another auth service was faster
        wanted["num_replicas"] = max(replicas, found.get("num_replicas", 1))
        if changed := differences(found, wanted):
            await call(connection, f"STREAM.UPDATE.{AUTH_STREAM}", {**found, **changed})
            fields = ", ".join(sorted(changed))
            _log.warning("stream-updated", action="stream_updated", stream=AUTH_STREAM, fields=fields)
    except ApiRefused as refused:
        raise BusUnavailable("the stream of revocations cannot be made", reason=str(refused)) from None


async def _config_of(connection: Connection, stream: str) -> dict[str, Any] | None:
    try:
        config: dict[str, Any] = (await call(connection, f"STREAM.INFO.{stream}"))["config"]
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_STREAM:
            return None
        raise
    return config


async def is_revoked(connection: Connection, token_id: str) -> bool:
    """Whether a token is revoked, as the stream's leader knows it.

    Raises:
        BusUnavailable: It cannot be known now.
    """
    try:
        await call(connection, f"STREAM.MSG.GET.{AUTH_STREAM}", {"last_by_subj": REVOKED + token_id}, timeout_s=2)
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_MESSAGE:
            return False
        raise BusUnavailable("revocations cannot be read", reason=str(refused)) from None
    return True


async def store_revocation(connection: Connection, token: Token) -> None:
    """Refuse a token from now on.

    Raises:
        BusUnavailable: It was not stored.
    """
    await _store(connection, REVOKED + token.id, b"{}")


async def store_grants(connection: Connection, grants: Grants) -> None:
    """Keep what a peer is granted from now on, for the agents; they refuse what no subject can refuse.

    Raises:
        BusUnavailable: It was not stored.
    """
    data = orjson.dumps(grants.to_json_dict())
    for room in grants.rooms:
        await _store(connection, granted_subject(room, grants.peer), data)


async def _store(connection: Connection, subject: str, data: bytes) -> None:
    try:
        parse_answer((await connection.request(subject, data, timeout_s=5)).data)
    except (Unanswered, ApiRefused) as error:
        raise BusUnavailable("not stored", subject=subject, reason=str(error)) from None


async def end_connections(system: Connection, user_name: str) -> int:
    """Disconnect all connections of a user, on all servers of the cluster; returns how many.

    Args:
        system: A connection to NATS' system account.
        user_name: As it was given to NATS when the connections were authorized.
    """
    ended: set[tuple[str, int]] = set()
    for _ in range(_ROUNDS):
        found = [one async for one in _connections(system, user_name)]
        for server, client in set(found) - ended:
            try:
                await system.request(
                    f"$SYS.REQ.SERVER.{server}.KICK", orjson.dumps({"cid": client}), timeout_s=_REPORT_S * 4
                )
            except Unanswered as error:
                _log.warning("kick unanswered", action="kick_unanswered", reason=error.reason)
                continue
            ended.add((server, client))
    return len(ended)


async def _connections(system: Connection, user_name: str) -> AsyncIterator[tuple[str, int]]:
    """The server and number of each connection of a user; each server of the cluster reports its own."""
    inbox = system.new_inbox()
    buffer = SubscriptionBuffer(1024)
    subscription = await system.subscribe(inbox, buffer)
    try:
        query = {"auth": True, "user": user_name, "limit": 1024}
        await system.publish("$SYS.REQ.SERVER.PING.CONNZ", orjson.dumps(query), reply=inbox)
        deadline = asyncio.get_running_loop().time() + _REPORT_S
        while (left := deadline - asyncio.get_running_loop().time()) > 0 and await buffer.wait(left):
            item = buffer.pop()
            if isinstance(item, BufferedMessage):
                report: dict[str, Any] = orjson.loads(item.message.data)
                for client in report.get("data", {}).get("connections") or ():
                    yield report["server"]["id"], client["cid"]
    finally:
        await system.unsubscribe(subscription)
