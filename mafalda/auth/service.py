"""The auth service: answers nats-server's auth callout with what a token grants, and revokes tokens.

Any number may run: NATS gives each connection attempt to one of them. What it cannot check it refuses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass

import orjson
import structlog

from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.auth import nats_jwt
from mafalda.auth.revocations import end_connections, ensure_auth_stream, is_revoked, store_grants, store_revocation
from mafalda.auth.tokens import Token, TokenKeys
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection, open_connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.connection.subscription_buffer import BufferedMessage, SubscriptionBuffer
from mafalda.bus.log.append import append
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import Leave
from mafalda.contract.messages.results import Rejected
from mafalda.contract.permissions import PARTICIPANT_ACCOUNT, REVOKE_REQUEST, participant_permissions, token_notices
from mafalda.errors import BadToken, BusUnavailable, MafaldaError, PermissionDenied

_log = structlog.get_logger(__name__)

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
        for pattern in (CALLOUT, REVOKE_REQUEST):
            await self._connection.subscribe(pattern, buffer, queue=GROUP)
        await self._connection.flush(self._connection.config.api_timeout_s)
        ready.set()
        while True:
            await buffer.wait()
            item = buffer.pop()
            if isinstance(item, PermissionDenied):
                raise item
            if isinstance(item, BufferedMessage) and item.message.reply:
                handle = self._authorize if item.message.subject == CALLOUT else self._revoke
                tasks.spawn(self._answer(handle(item.message.data), item.message.reply), "auth answer")

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
            await self._refuse_revoked(token)  # first: a revoked token's grants are not stored
            await store_grants(self._connection, token.grants)
            await self._refuse_revoked(token)  # again: storing takes a while, and what is signed is not looked up later
            jwt = nats_jwt.user_jwt(
                request["user_nkey"],
                name=token.id,
                account=PARTICIPANT_ACCOUNT,
                permissions=participant_permissions(token.grants),
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

    async def _refuse_revoked(self, token: Token) -> None:
        if await is_revoked(self._connection, token.id):
            raise BadToken("the token is revoked")

    async def _revoke(self, raw: bytes) -> bytes:
        try:
            token = self._keys.tokens.verify(raw.decode("ascii", "replace"), now=int(time.time()))
            await store_revocation(self._connection, token)
            try:
                await self._announce_revocation(token)
            except BusUnavailable as unannounced:  # the connections end all the same
                _log.warning("revocation not announced", action="token_revoked", reason=str(unannounced))
            ended = await end_connections(self._system, token.id)
            await self._remove_peer(token)
        except MafaldaError as refused:
            return orjson.dumps({"error": {"code": refused.code, "message": str(refused)}})
        _log.info("token revoked", action="token_revoked", token_id=token.id, connections=ended)
        return orjson.dumps({"tokenId": token.id, "connections": ended})

    async def _announce_revocation(self, token: Token) -> None:
        """Tell the connections of a token why they end: NATS does not, and looks the same while it restarts."""
        error = ErrorInfo(code=BadToken.code, message="the token is revoked", details={"token_id": token.id})
        for room in token.grants.rooms:
            subject = token_notices(room, token.grants.peer)
            notice = compose(Rejected(intent="connect", error=error), subject=subject, source="/mafalda/auth")
            await self._connection.publish(subject, encode(notice))
        with suppress(Unanswered):
            await self._connection.flush(1)  # before the connections end

    async def _remove_peer(self, token: Token) -> None:
        """Make the peer leave its rooms: its media would go on without a connection to NATS."""
        for room in token.grants.rooms:
            subject = subjects.intent(room, token.grants.peer, Leave.action)
            await append(
                self._connection, subject, compose(Leave(), subject=subject, source="/mafalda/auth"), None, None
            )


def _presented(request: dict[str, object]) -> str:
    """The token that a client gave: as ``auth_token``, as password, or as JWT."""
    options = request.get("connect_opts")
    if isinstance(options, dict):
        for name in ("auth_token", "pass", "jwt"):
            if isinstance(value := options.get(name), str) and value:
                return value
    raise BadToken("the connection presented no token")
