"""The auth service: answers nats-server's auth callout with what a token grants, and revokes tokens.

Any number may run: NATS gives each connection attempt to one of them. What it cannot check it refuses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import orjson
import structlog
from pydantic import ValidationError

from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.auth import nats_jwt
from mafalda.auth.connections import end_connections
from mafalda.auth.revocations import (
    ensure_auth_stream,
    present_grants,
    seen_tokens,
    store_change,
    store_grants,
    store_revocation,
    store_revocation_until,
    store_token,
)
from mafalda.auth.tokens import Token, TokenKeys
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection, open_connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer
from mafalda.bus.log.append import append
from mafalda.contract import subjects
from mafalda.contract.grants import ChangeRequest, Grants, Revocation
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import ApplyGrants, Intent, Leave
from mafalda.contract.messages.results import Rejected
from mafalda.contract.permissions import (
    GRANT_REQUEST,
    PARTICIPANT_ACCOUNT,
    REVOKE_REQUEST,
    participant_permissions,
    token_notices,
)
from mafalda.errors import BadInput, BadToken, BusUnavailable, MafaldaError, PermissionDenied
from mafalda.media.model import Model

_log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Model)

CALLOUT = "$SYS.REQ.USER.AUTH"
GROUP = "mafalda-auth"


@dataclass(frozen=True, slots=True)
class AuthKeys:
    """What the service signs and verifies with."""

    tokens: TokenKeys
    issuer_seed: str


async def run_auth_service(fleet: BusConfig, system: BusConfig, keys: AuthKeys, *, ready: asyncio.Event) -> None:
    """Serve until cancelled.

    Args:
        fleet: A connection with the nkey of the role ``auth``.
        system: A connection with the nkey ``auth-system``, to NATS' system account.
        keys: To verify tokens and to sign permissions.
        ready: Set when connections are authorized.

    Raises:
        BusUnavailable: NATS cannot be reached.
        PermissionDenied: NATS refuses one of the nkeys.
    """
    async with open_connection(fleet) as connection, open_connection(system) as system_connection:
        await ensure_auth_stream(connection)
        service = AuthService(connection, system_connection, keys)
        async with open_tasks() as tasks:
            await service.serve(tasks, ready)


class AuthService:
    """One instance. Run it with ``run_auth_service``."""

    def __init__(self, connection: Connection, system: Connection, keys: AuthKeys) -> None:
        self._connection = connection
        self._system = system
        self._keys = keys

    async def serve(self, tasks: TaskScope, ready: asyncio.Event) -> None:
        """Answer callouts and revocations until cancelled."""
        buffer = SubscriptionBuffer(self._connection.config.follow_buffer)
        handlers = {CALLOUT: self._authorize, REVOKE_REQUEST: self._revoke, GRANT_REQUEST: self._change_grants}
        for pattern in handlers:
            await self._connection.subscribe(pattern, buffer, queue=GROUP)
        await self._connection.flush(self._connection.config.api_timeout_s)
        ready.set()
        while True:
            await buffer.wait()
            item = buffer.pop()
            if isinstance(item, PermissionDenied):
                raise item
            if isinstance(item, BufferedMessage) and item.message.reply:
                handling = handlers[item.message.subject](item.message.data)
                tasks.spawn(self._answer(handling, item.message.reply), "auth answer")

    async def _answer(self, answering: Awaitable[bytes], reply: str) -> None:
        try:
            await self._connection.publish(reply, await answering)
        except MafaldaError as error:  # the server refuses the connection when its time is over
            _log.warning("auth request unanswered", action="auth_unanswered", reason=str(error))
        except Exception:
            _log.exception("auth request failed", action="auth_failed")

    async def _authorize(self, raw: bytes) -> bytes:
        request = nats_jwt.read_request(raw)
        now = int(time.time())
        jwt = error = ""
        try:
            token = self._keys.tokens.verify(_presented(request), now=now)
            await present_grants(self._connection, token)  # first: nothing is stored of a revoked token
            await store_token(self._connection, token, now=now)
            # Again: storing takes a while, and what is signed is not looked up later.
            granted = await self._store_present_grants(token)
            jwt = nats_jwt.user_jwt(
                request["user_nkey"],
                name=token.id,
                account=PARTICIPANT_ACCOUNT,
                permissions=participant_permissions(*granted),
                expires=token.expires,
                now=now,
                issuer_seed=self._keys.issuer_seed,
            )
            _log.info("participant authorized", action="authorized", peer_id=token.grants.peer, token_id=token.id)
        except MafaldaError as refused:
            error = str(refused)
            host = (request.get("client_info") or {}).get("host")
            _log.warning("connection refused", action="connection_refused", reason=error, host=host)
        answer = nats_jwt.response_jwt(request, jwt=jwt, error=error, now=now, issuer_seed=self._keys.issuer_seed)
        return answer.encode()

    async def _store_present_grants(self, token: Token) -> list[Grants]:
        """What a token grants now in each room, which the agents may read from then on.

        Raises:
            BadToken: It is revoked.
        """
        granted = await present_grants(self._connection, token)
        await store_grants(self._connection, granted)
        if await present_grants(self._connection, token) != granted:  # changed meanwhile
            return await self._store_present_grants(token)
        return [it.model_copy(update={"rooms": [room]}) for room, it in granted.items()]

    async def _revoke(self, raw: bytes) -> bytes:
        try:
            tokens, rooms = await self._store_revocation(raw)
            for token in tokens.values():
                try:
                    await self._announce_revocation(token, rooms)
                except BusUnavailable as unannounced:  # the connections end all the same
                    _log.warning("revocation not announced", action="token_revoked", reason=str(unannounced))
            with suppress(Unanswered):
                await self._connection.flush(1)  # before the connections end
            for token in tokens.values():
                await self._remove_peer(token, rooms)
            ended = await end_connections(self._system, tokens)
        except MafaldaError as refused:
            return _refusal(refused)
        _log.info("tokens revoked", action="token_revoked", token_ids=list(tokens)[:10], connections=ended)
        first = {"tokenId": next(iter(tokens))} if len(tokens) == 1 else {}
        return orjson.dumps({**first, "tokens": len(tokens), "connections": ended})

    async def _store_revocation(self, raw: bytes) -> tuple[dict[str, Token], set[str] | None]:
        """Refuse from now on what a request names.

        Returns:
            The tokens among that whose connections have to end, and the rooms that they open no more; ``None``: all
            of their rooms. Whoever may speak for one room ends nobody's session in another.

        Raises:
            BadInput: It names nothing.
        """
        now = int(time.time())
        if not raw.lstrip().startswith(b"{"):
            text = raw.decode("ascii", "replace")
            with suppress(BadToken):
                application = self._keys.tokens.verify_application(text, now=now)
                await store_revocation(self._connection, application.id)
                return {}, None  # it opens no connection
            token = self._keys.tokens.verify(text, now=now)
            await store_revocation(self._connection, token.id)
            return {token.id: token}, None
        wanted = _parse(Revocation, raw)
        if wanted.room is None:
            await store_revocation(self._connection, wanted.token_id or "")
            return await seen_tokens(self._connection, id=wanted.token_id or ""), None
        await store_revocation_until(self._connection, now, wanted.room, wanted.peer)
        found = await seen_tokens(self._connection, room=wanted.room, peer=wanted.peer or "*")
        ahead = [token.issued for token in found.values() if token.issued > now]  # by a clock that is ahead
        if ahead:
            await store_revocation_until(self._connection, max(ahead), wanted.room, wanted.peer)
        return found, {wanted.room}

    async def _change_grants(self, raw: bytes) -> bytes:
        try:
            wanted = _parse(ChangeRequest, raw)
            now = int(time.time())
            await store_change(self._connection, now, wanted.room, wanted.peer, wanted.grants)
            found = await seen_tokens(self._connection, room=wanted.room, peer=wanted.peer)
            tokens = {id: token for id, token in found.items() if token.issued <= now}
            for token in sorted(tokens.values(), key=lambda it: it.issued):  # the newest one's grants stay stored
                with suppress(BadToken):
                    await store_grants(self._connection, await present_grants(self._connection, token))
            ended = await self._reconnect(wanted, tokens)
        except MafaldaError as refused:
            return _refusal(refused)
        fields = {"room_id": wanted.room, "peer_id": wanted.peer}
        _log.info("grants changed", action="grants_changed", **fields, connections=ended)
        return orjson.dumps({"tokens": len(tokens), "connections": ended})

    async def _reconnect(self, wanted: ChangeRequest, tokens: dict[str, Token]) -> int:
        """End the connections of a peer, which come back with other permissions, and close what those do not permit.

        What the peer published before is in the log before ``apply-grants``, and what it publishes later is permitted.
        """

        async def apply() -> None:
            await self._append(wanted.room, wanted.peer, ApplyGrants())

        ended = await end_connections(self._system, tokens, ended=apply)
        if not ended:  # it is not connected now; its media may go on
            await apply()
        return ended

    async def _announce_revocation(self, token: Token, rooms: set[str] | None) -> None:
        """Tell the connections of a token why they end: NATS does not, and looks the same while it restarts."""
        error = ErrorInfo(code=BadToken.code, message="the token is revoked", details={"token_id": token.id})
        for room in _concerned(token, rooms):
            subject = token_notices(room, token.grants.peer)
            notice = compose(Rejected(intent="connect", error=error), subject=subject, source="/mafalda/auth")
            await self._connection.publish(subject, encode(notice))

    async def _remove_peer(self, token: Token, rooms: set[str] | None) -> None:
        """Make the peer leave its rooms: its media would go on without a connection to NATS."""
        for room in _concerned(token, rooms):
            await self._append(room, token.grants.peer, Leave(cause="revoked"))

    async def _append(self, room: str, peer: str, intent: Intent) -> None:
        subject = subjects.intent(room, peer, intent.action)
        await append(self._connection, subject, compose(intent, subject=subject, source="/mafalda/auth"), None, None)


def _concerned(token: Token, rooms: set[str] | None) -> list[str]:
    return [room for room in token.grants.rooms if rooms is None or room in rooms]


def _parse(model: type[M], raw: bytes) -> M:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput("not a request", field=".".join(map(str, first["loc"])), problem=first["msg"]) from None


def _refusal(error: MafaldaError) -> bytes:
    return orjson.dumps({"error": {"code": error.code, "message": str(error)}})


def _presented(request: dict[str, object]) -> str:
    """The token that a client gave: as ``auth_token``, as password, or as JWT."""
    options = request.get("connect_opts")
    if isinstance(options, dict):
        for name in ("auth_token", "pass", "jwt"):
            if isinstance(value := options.get(name), str) and value:
                return value
    raise BadToken("the connection presented no token")
