"""A client on a bus, and joining rooms with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from mafalda.aio.retry import retrying
from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Inbox, PeerBus
from mafalda.client.config import ClientConfig
from mafalda.client.credentials import choose_peer, choose_room, open_client_bus
from mafalda.client.room import Room
from mafalda.client.session.session import Session
from mafalda.client.webrtc.ahead import TransportsToOpen
from mafalda.client.webrtc.endpoint import new_id
from mafalda.contract import subjects
from mafalda.contract.grants import Grants
from mafalda.contract.ids import check_id
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.intents import Join, Leave
from mafalda.contract.messages.queries import Speakers
from mafalda.contract.messages.results import Done, JoinResult
from mafalda.errors import Broken, BusUnavailable, DeadlineExceeded, LogFull, MafaldaError, PermissionDenied

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def connect(
    url: str | None = None, *, token: str | None = None, bus: PeerBus | None = None, config: ClientConfig | None = None
) -> AsyncIterator[Client]:
    """Connect to Mafalda.

    Args:
        url: Of NATS, several by comma; ``None`` is ``MAFALDA_NATS_URL``, else ``nats://127.0.0.1:4222``.
        token: A participant's, which is all that is needed; ``None`` is ``MAFALDA_TOKEN``, else another credential.
        bus: Use this bus, which somebody else opened and closes, instead of connecting to ``url``.
        config: How long to wait for what.

    Raises:
        BusUnavailable: There is no NATS.
        PermissionDenied: NATS refused the token, or another credential.
    """
    async with AsyncExitStack() as stack:
        grants = None
        if bus is None:
            opened = await stack.enter_async_context(open_client_bus(url, token))
            bus, grants = opened.bus, opened.grants
        inbox = await stack.enter_async_context(bus.inbox())
        departures = await stack.enter_async_context(open_tasks())
        client = Client(bus, inbox, config or ClientConfig(), departures, grants)
        tasks = await stack.enter_async_context(open_tasks(client.inbox_failed))
        tasks.spawn(client.read_inbox(), "client-inbox")
        yield client


class Client:
    """Made by ``connect``. It can be in any number of rooms."""

    def __init__(
        self, bus: PeerBus, inbox: Inbox, config: ClientConfig, tasks: TaskScope, grants: Grants | None = None
    ) -> None:
        self._bus = bus
        self._inbox = inbox
        self._config = config
        #: Of the token; ``None``: the credential is another one.
        self.grants = grants
        self._sessions: set[Session] = set()
        #: The peers that left while nobody could be told.
        self._departures: SerialExecutor[tuple[str, str]] = SerialExecutor(tasks, "leave of")

    @asynccontextmanager
    async def join(
        self,
        room: str | None = None,
        peer: str | None = None,
        *,
        app_data: dict[str, Any] | None = None,
        region: str | None = None,
        audience: bool = False,
        transports: TransportsToOpen = "none",
        report_statistics: bool = False,
    ) -> AsyncIterator[Room]:
        """Be a peer of a room while the block runs; leaving the block closes all that was opened there.

        Args:
            room: Its id; a room is made by joining it. If not given, the one that the token names.
            peer: Its id in the room; if not given, the one that the token names, or a random one.
            app_data: For the other peers.
            region: Where the peer is; a policy may prefer servers near it.
            audience: Only receive, and be announced to nobody: for rooms of thousands. ``Room.peers`` has no audience.
            report_statistics: Report WebRTC statistics to the fleet, for `mafalda explain PEER --at TIME`.
            transports: Which are opened in one flight with the join; any other one when it is first needed.

        Raises:
            IllegalId: The room's or the peer's id is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
            BadInput: There is no room to join.
            NotGranted: The token is for another room, or another peer.
            AlreadyExists: The room has a peer of this id.
            NoCapacity: No worker takes the peer.
            DeadlineExceeded: Nobody answered in time.
        """
        room = choose_room(room, self.grants)
        peer = check_id("peer", choose_peer(peer, self.grants) or new_id("peer"))
        await self._await_departure(room, peer)
        intent = Join(app_data=app_data or {}, region=region, audience=audience)
        session = Session(
            self._bus,
            self._inbox.subject,
            room,
            peer,
            intent,
            self._config,
            reports_statistics=report_statistics,
        )
        patterns = (
            subjects.result(room, peer, "*"),
            subjects.peer_event(room, peer, "*"),
            subjects.room_event(room, "*"),
        )
        async with self._bus.follow(*patterns) as follower:
            self._sessions.add(session)
            try:
                session.listen(follower)
                await self._join(session, transports)
                yield Room(session)
            finally:
                await self._leave(session)
                self._sessions.discard(session)

    async def _await_departure(self, room: str, peer: str) -> None:
        """Wait until an earlier membership's leave is stored: after the join it would end the new one."""
        try:
            async with asyncio.timeout(self._config.join_timeout_s):
                await self._departures.wait_idle((room, peer))
        except TimeoutError:
            raise DeadlineExceeded("the former leave of this peer is not stored yet", room=room, peer=peer) from None

    async def _join(self, session: Session, transports: TransportsToOpen) -> None:
        limit_s = self._config.join_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                placing = session.requests.request(
                    session.intent,
                    JoinResult,
                    timeout_s=limit_s,
                    stored=lambda: session.ahead.request(transports),
                )
                session.placed(await session.unless_over(placing))
                await session.unless_over(session.begin())
        except TimeoutError:
            session.may_be_placed = True
            raise DeadlineExceeded("no answer to the join in time", timeout_s=limit_s) from None
        except (DeadlineExceeded, asyncio.CancelledError):
            session.may_be_placed = True
            raise

    async def _leave(self, session: Session) -> None:
        """Request to leave, if the peer has a place or may get one, and close everything.

        If nobody answers, the request is repeated as long as this client is open.
        """
        session.leave()
        key = (session.requests.room, session.requests.peer)
        try:
            if (session.placement is not None or session.may_be_placed) and not session.over:
                try:
                    async with asyncio.timeout(self._config.leave_timeout_s):
                        await session.requests.request(Leave(), Done)
                except (TimeoutError, Broken) as error:
                    _log.info("left without an answer", action="client_leave", reason=repr(error))
                    self._departures.submit(key, lambda: self._append_leave(*key))
        except MafaldaError as error:
            _log.info("not left", action="client_leave", reason=str(error))
        finally:
            await session.end()

    async def _append_leave(self, room: str, peer: str) -> None:
        """Append a ``Leave`` as soon as the log takes it: then the fleet carries it out."""
        subject = subjects.intent(room, peer, Leave.action)
        message = compose(Leave(), subject=subject, source=f"/mafalda/client/{room}/{peer}")
        async for attempt in retrying(BusUnavailable, LogFull, action="client_leave", room=room, peer=peer):
            with attempt:
                await self._bus.append(subject, message)

    async def read_inbox(self) -> None:
        """Pass private answers to the sessions that they are for, until it is cancelled."""
        while True:
            try:
                delivery = await self._inbox.next(timeout_s=60.0)
                message = decode(delivery.data)
            except DeadlineExceeded:
                continue
            except PermissionDenied as error:  # the token is good for nothing any more
                for session in list(self._sessions):
                    session.fail(error)
                return
            except MafaldaError as error:
                _log.warning("unreadable", action="client_inbox", reason=str(error))
                continue
            self._take_private(message)

    def _take_private(self, message: Message) -> None:
        for session in self._sessions:
            if isinstance(message.data, Speakers):
                if session.requests.room == message.data.room:
                    session.speakers.take(message.data)
            elif session.requests.take_private(message):
                break

    def inbox_failed(self, name: str, error: Exception) -> None:
        """End every session: without the inbox none can go on."""
        _log.error("the inbox failed", action="client_bug", task=name, exc_info=error)
        for session in list(self._sessions):
            session.task_failed(name, error)
