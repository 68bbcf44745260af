"""What the auth service keeps in a stream of its own.

========================================= ==============================================================
subject below ``mafalda.auth.``           holds
========================================= ==============================================================
``revoked.{token}``                       nothing: the token is revoked
``revoked-room.{room}``                   since when: tokens that were issued until then open this room no more
``revoked-peer.{room}.{peer}``            since when: the same for those of this peer
``changed.{room}.{peer}``                 what the peer is granted instead, by tokens that were issued until then
``token.{room}.{peer}.{token}``           a token that connected, until it expires
``peer.{room}.{peer}``                    what the peer is granted now, for the agents
========================================= ==============================================================
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any, TypeVar

import orjson
import structlog
from pydantic import ValidationError

from mafalda.auth.tokens import LEEWAY_S, MAX_LIFE_S, Token
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call, parse_answer
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.log.streams import LOG_STREAM, differences
from mafalda.contract.grants import GrantChange, Grants
from mafalda.contract.permissions import (
    AUTH_STREAM,
    REVOKED,
    changed_grants_subject,
    granted_subject,
    revoked_peer_subject,
    revoked_room_subject,
    seen_token_subject,
)
from mafalda.errors import BadToken, BusUnavailable

_log = structlog.get_logger(__name__)

M = TypeVar("M", Grants, GrantChange)


async def ensure_auth_stream(connection: Connection) -> None:
    """Create the stream of revocations, or update what differs, with as many replicas as the log has at least.

    No participant gets in while the stream has no leader, and a revocation is as durable as its replicas. An entry
    outlives every token that it may be about.

    Raises:
        BusUnavailable: JetStream did not answer, or refused the stream.
    """
    wanted: dict[str, Any] = {
        "name": AUTH_STREAM,
        "description": "Revoked tokens, and what each peer is granted.",
        "subjects": [
            f"{REVOKED}*",
            revoked_room_subject("*"),
            revoked_peer_subject("*", "*"),
            changed_grants_subject("*", "*"),
            seen_token_subject("*", "*", "*"),
            granted_subject("*", "*"),
        ],
        "allow_msg_ttl": True,
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
    """Whether a token is revoked by its id.

    Raises:
        BusUnavailable: It cannot be known now.
    """
    return await _last(connection, REVOKED + token_id) is not None


async def present_grants(connection: Connection, token: Token) -> dict[str, Grants]:
    """What a token grants now in each of its rooms that is not revoked, as the stream's leader knows it.

    Raises:
        BadToken: It is revoked: by itself, or for all of its rooms.
        BusUnavailable: It cannot be known now.
    """
    rooms, peer = token.grants.rooms, token.grants.peer
    by_id, of_rooms, of_peer, changes = await asyncio.gather(
        _last(connection, REVOKED + token.id),
        asyncio.gather(*(_last(connection, revoked_room_subject(room)) for room in rooms)),
        asyncio.gather(*(_last(connection, revoked_peer_subject(room, peer)) for room in rooms)),
        asyncio.gather(*(_last(connection, changed_grants_subject(room, peer)) for room in rooms)),
    )
    granted = {
        room: _changed(token, change)
        for room, *revoked, change in zip(rooms, of_rooms, of_peer, changes, strict=True)
        if not any(it is not None and token.issued <= orjson.loads(it)["until"] for it in revoked)
    }
    if by_id is not None or not granted:
        raise BadToken("the token is revoked")
    return granted


def _changed(token: Token, stored: bytes | None) -> Grants:
    if stored is None:
        return token.grants
    change = orjson.loads(stored)
    if token.issued > change["until"]:
        return token.grants
    return _stored(GrantChange, change["grants"]).apply(token.grants)


def _stored(model: type[M], grants: Any) -> M:
    """What was stored about grants.

    Raises:
        BusUnavailable: A newer version stored it, and may restrict what this one does not know.
    """
    try:
        return model.model_validate(grants)
    except ValidationError:
        raise BusUnavailable("a newer auth service has to answer: what is stored is of its version") from None


async def store_revocation(connection: Connection, token_id: str) -> None:
    """Refuse a token from now on.

    Raises:
        BusUnavailable: It was not stored.
    """
    await _store(connection, REVOKED + token_id, b"{}")


async def store_revocation_until(connection: Connection, until: int, room: str, peer: str | None) -> None:
    """Refuse the tokens for a room, or for a peer in it, that were issued until a time (Unix seconds).

    Raises:
        BusUnavailable: It was not stored.
    """
    subject = revoked_room_subject(room) if peer is None else revoked_peer_subject(room, peer)
    await _store(connection, subject, orjson.dumps({"until": until}))


async def store_change(connection: Connection, until: int, room: str, peer: str, change: GrantChange) -> None:
    """Let a peer have other grants than its tokens say that were issued until a time (Unix seconds).

    Raises:
        BusUnavailable: It was not stored.
    """
    grants = change.model_dump(mode="json", by_alias=True, exclude_none=True)
    await _store(connection, changed_grants_subject(room, peer), orjson.dumps({"until": until, "grants": grants}))


async def store_token(connection: Connection, token: Token, *, now: int) -> None:
    """Keep until it expires that a token connects, so that its connections are found by room and peer.

    Raises:
        BusUnavailable: It was not stored.
    """
    data = orjson.dumps({"issued": token.issued, "expires": token.expires, "grants": token.grants.to_json_dict()})
    life_s = max(1, token.expires + 2 * LEEWAY_S - now)
    for room in token.grants.rooms:
        await _store(connection, seen_token_subject(room, token.grants.peer, token.id), data, life_s=life_s)


async def seen_tokens(connection: Connection, *, room: str = "*", peer: str = "*", id: str = "*") -> dict[str, Token]:
    """The tokens, by id, that have connected for a room or a peer, or with an id.

    Raises:
        BusUnavailable: They cannot be known now, or a newer version has stored one.
    """
    pattern, offset = seen_token_subject(room, peer, id), 0
    found: dict[str, Token] = {}
    while True:
        query = {"subjects_filter": pattern, "offset": offset}
        try:
            info = await call(connection, f"STREAM.INFO.{AUTH_STREAM}", query)
        except ApiRefused as refused:
            raise BusUnavailable("the tokens cannot be read", reason=str(refused)) from None
        subjects: dict[str, int] = info.get("state", {}).get("subjects") or {}
        for subject in subjects:
            token_id = subject.rpartition(".")[2]
            if token_id not in found and (data := await _last(connection, subject)) is not None:
                stored = orjson.loads(data)
                grants = _stored(Grants, stored["grants"])
                found[token_id] = Token(token_id, grants, stored["expires"], stored["issued"])
        offset += len(subjects)
        if not subjects or offset >= info.get("total", 0):
            return found


async def store_grants(connection: Connection, grants: dict[str, Grants]) -> None:
    """Keep what a peer is granted from now on in each room, for the agents; they refuse what no subject can refuse.

    Raises:
        BusUnavailable: It was not stored.
    """
    for room, granted in grants.items():
        await _store(connection, granted_subject(room, granted.peer), orjson.dumps(granted.to_json_dict()))


async def _last(connection: Connection, subject: str) -> bytes | None:
    """What is stored on a subject, as the stream's leader knows it."""
    try:
        answer = await call(connection, f"STREAM.MSG.GET.{AUTH_STREAM}", {"last_by_subj": subject}, timeout_s=2)
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_MESSAGE:
            return None
        raise BusUnavailable("revocations cannot be read", reason=str(refused)) from None
    return b64decode(answer["message"].get("data", ""))


async def _store(connection: Connection, subject: str, data: bytes, *, life_s: int | None = None) -> None:
    headers = {"Nats-TTL": f"{life_s}s"} if life_s is not None else None
    try:
        parse_answer((await connection.request(subject, data, headers=headers, timeout_s=5)).data)
    except (Unanswered, ApiRefused) as error:
        raise BusUnavailable("not stored", subject=subject, reason=str(error)) from None
