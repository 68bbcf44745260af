"""A ``PeerBus`` that needs nothing but a participant's token: no JetStream API, only its own subjects and inboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import SecretStr

from mafalda.aio.clock import PausableClock
from mafalda.aio.retry import retrying
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection, open_connection
from mafalda.bus.log import append
from mafalda.bus.nats import requests
from mafalda.bus.nats.inbox import NatsInbox, open_inbox
from mafalda.bus.participant.follower import ParticipantFollower, open_follower
from mafalda.bus.participant.token_notices import TokenNotices
from mafalda.bus.protocol import Appended, Delivery, Inbox
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.queries import LogEntries, QueryEntries
from mafalda.contract.participant_token import ParticipantToken
from mafalda.contract.permissions import inbox_prefix, token_notices
from mafalda.errors import BusUnavailable, DeadlineExceeded, MalformedMessage, NotFound

#: So long NATS may refuse a token that it has accepted: JetStream, from which the auth service reads, may be without a
#: leader for 9 s after a restart. A revoked token ends the connection before that, by a notice.
_REFUSED_FOR_S = 20.0
_ASK_TIMEOUT_S = 5.0


@asynccontextmanager
async def connect(config: BusConfig, token: ParticipantToken) -> AsyncIterator[ParticipantBus]:
    """Connect with a token; whatever other credential ``config`` has is not used.

    Raises:
        BusUnavailable: No NATS in time.
        PermissionDenied: The token was refused.
    """
    own = {
        "token": SecretStr(token.text),
        "nkey_seed": None,
        "credentials_file": None,
        "user": None,
        "password": None,
        "inbox_prefix": inbox_prefix(token.grants.rooms[0], token.grants.peer),
        "refused_for_s": config.refused_for_s or _REFUSED_FOR_S,
        "ensure_streams": False,
    }
    async with open_connection(config.model_copy(update=own)) as connection:
        await connection.subscribe(
            token_notices(token.grants.rooms[0], token.grants.peer), TokenNotices(connection, token.id)
        )
        yield ParticipantBus(connection)


class ParticipantBus:
    """A ``PeerBus``; get one from ``connect``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._followers: dict[ParticipantFollower, tuple[str, str]] = {}  # room and peer

    @property
    def clock(self) -> PausableClock:
        return self.connection.clock

    async def append(self, subject: str, message: Message, *, headers: Mapping[str, str] | None = None) -> Appended:
        stored = await append.append(self.connection, subject, message, None, headers)
        owner = _owner(subject)
        for follower, its_owner in self._followers.items():
            if its_owner == owner:
                follower.appended(stored)
        return stored

    def follow(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        return self._follow(patterns)

    @asynccontextmanager
    async def _follow(self, patterns: tuple[str, ...]) -> AsyncIterator[ParticipantFollower]:
        room, peer = next(found for pattern in patterns if (found := _owner(pattern)) is not None)

        async def ask(after: int) -> LogEntries:
            return await self._ask(room, peer, after)

        async with open_follower(self.connection, patterns, ask) as follower:
            self._followers[follower] = (room, peer)
            try:
                yield follower
            finally:
                del self._followers[follower]

    async def request(self, subject: str, message: Message, *, timeout_s: float) -> Message:
        return await requests.request(self.connection, subject, message, timeout_s)

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        return self._inbox()

    @asynccontextmanager
    async def _inbox(self) -> AsyncIterator[NatsInbox]:
        async with open_inbox(self.connection) as inbox:
            yield inbox

    async def _ask(self, room: str, peer: str, after: int) -> LogEntries:
        """The entries after a sequence, from whichever agent answers, as soon as one does."""
        subject = subjects.query(room, peer, QueryEntries.action)
        source = f"/mafalda/client/{room}/{peer}"
        pauses = retrying(BusUnavailable, DeadlineExceeded, NotFound, action="participant_waits", room=room, peer=peer)
        async for attempt in pauses:
            with attempt:
                query = compose(QueryEntries(after=after), subject=subject, source=source)
                answer = (await self.request(subject, query, timeout_s=_ASK_TIMEOUT_S)).data
                if not isinstance(answer, LogEntries):
                    raise MalformedMessage("unexpected answer", type=answer.type_name())
                return answer
        raise AssertionError("retried until it succeeds")


def _owner(subject: str) -> tuple[str, str] | None:
    """The room and peer of a peer's subject."""
    address = subjects.parse(subject)
    if address is None or address.room is None or address.peer is None:
        return None
    return address.room, address.peer
