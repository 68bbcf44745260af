"""The fleet, as the virtual worker needs it: peers that join, want, ask and leave, each answer to who awaits it.

Results come by the application's own inbox, whole and in order with notifications, and by the log, where they rest
without bodies: what the inbox lost is found there. What does not belong here: mediasoup's requests
(``virtual_worker``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Bus, Delivery, Follower, Inbox
from mafalda.contract import subjects
from mafalda.contract.channels import fits
from mafalda.contract.messages import events
from mafalda.contract.messages.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.intents import Intent, Join
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import Ok, QueryChannel
from mafalda.contract.messages.results import (
    ChannelAnswer,
    ConsumeDataResult,
    ConsumeResult,
    Done,
    JoinResult,
    ProduceDataResult,
    ProduceResult,
    Rejected,
    Result,
)
from mafalda.dropin.virtual.errors import Refusal, failed, refusal_of
from mafalda.errors import (
    BadInput,
    BusUnavailable,
    DeadlineExceeded,
    MafaldaError,
    NoCapacity,
    WorkerRequestFailed,
)
from mafalda.mediasoup.codec.channel_json import from_json, to_json

#: For one question to an agent, in seconds.
ASK_WITHIN_S = 8.0
#: Between two questions to a fleet that is full for the moment, in seconds; workers report each second.
FULL_S = 0.5
#: What only the log has said after so long, the inbox has lost; seconds.
INBOX_LOST_S = 1.0
#: Between two looks at whether NATS is there, and for how long it may not be, in seconds.
LOOK_EVERY_S, MAY_BE_AWAY_S = 2.0, 12.0
_SERVER_EVENTS = tuple(
    f"mafalda.server.*.event.{name}" for name in ("worker-died", "server-lost", "server-stopped", "server-started")
)
log = structlog.get_logger("mafalda.dropin")


class Answer(NamedTuple):
    """What came of something: a body in the codec's shape, or a refusal."""

    body: dict[str, Any]
    refusal: Refusal | None = None


OnAnswer = Callable[[Answer], None]
OnNotice = Callable[[str, str, dict[str, Any] | None], None]


@dataclass(slots=True, eq=False)
class _Pending:
    on_answer: OnAnswer
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Joining:
    intent: str
    placed: asyncio.Future[JoinResult]


@dataclass(slots=True)
class Listeners:
    """Who is told what the fleet says unasked."""

    on_notice: OnNotice
    on_place_lost: Callable[[Callable[[Place], bool]], None]
    on_moved: Callable[[str, str, JoinResult], None]
    on_fleet_lost: Callable[[str], None]
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)


class Fleet:
    """Get one from ``open_fleet``."""

    def __init__(self, bus: Bus, follower: Follower, inbox: Inbox, listeners: Listeners) -> None:
        self._bus = bus
        self._follower = follower
        self._inbox = inbox
        self._listeners = listeners
        self._pending: dict[str, _Pending] = {}
        self._joining: dict[tuple[str, str], _Joining] = {}
        self.application = f"{socket.gethostname()}-{os.getpid()}"
        self._source = f"/mafalda/dropin/{self.application}"

    # --- what the application wants -------------------------------------------------------------------

    async def open_room(self, room: str) -> None:
        """Hear what comes of this room's peers."""
        await self._follower.add(_results(room))

    async def close_room(self, room: str) -> None:
        """Hear of it no more."""
        await self._follower.remove(_results(room))

    async def join(self, room: str, peer: str, what: str) -> JoinResult:
        """Become a peer; its place. A fleet that is full for the moment is asked again.

        Allocators count what they have just placed as load until a worker's report shows what it really costs, so an
        application that makes many transports at once outruns them; a worker would simply have taken them.

        Raises:
            MafaldaError: There is no place, or nobody answers.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ASK_WITHIN_S
        while True:
            try:
                return await self._join(room, peer, what, deadline)
            except NoCapacity:
                if loop.time() + FULL_S >= deadline:
                    raise
            await asyncio.sleep(FULL_S)

    async def _join(self, room: str, peer: str, what: str, deadline: float) -> JoinResult:
        message = self._compose(
            Join(app_data={"application": self.application, "is": what}, one_transport=True),
            subjects.intent(room, peer, Join.action),
        )
        joining = _Joining(message.id, asyncio.get_running_loop().create_future())
        self._joining[room, peer] = joining
        try:
            async with asyncio.timeout_at(deadline):
                await self._bus.append(message.subject or "", message, headers={REPLY_HEADER: self._inbox.subject})
                return await joining.placed
        except TimeoutError:
            raise DeadlineExceeded("no worker of the fleet took it in time", waited_s=ASK_WITHIN_S) from None
        finally:
            if self._joining.get((room, peer)) is joining:
                del self._joining[room, peer]

    async def intend(self, room: str, peer: str, intent: Intent, on_answer: OnAnswer) -> str:
        """Publish an intent; returns its id once it is in the log.

        Args:
            room: Of the peer.
            peer: Who wants it.
            intent: What.
            on_answer: Called once, in the moment in which the answer comes.

        Raises:
            MafaldaError: It is not in the log; ``on_answer`` is not called.
        """
        message = self._compose(intent, subjects.intent(room, peer, intent.action))
        self._pending[message.id] = _Pending(on_answer)
        try:
            await self._bus.append(message.subject or "", message, headers={REPLY_HEADER: self._inbox.subject})
        except BaseException:
            self._pending.pop(message.id, None)
            raise
        return message.id

    async def ask(self, room: str, peer: str, call: ChannelCall) -> dict[str, Any]:
        """Ask a peer's agent something that must not rest in the log; the worker's answer.

        Raises:
            MafaldaError: Why not.
        """
        subject = subjects.query(room, peer, QueryChannel.action)
        found = await self._bus.request(
            subject, self._compose(QueryChannel(call=call), subject), timeout_s=ASK_WITHIN_S
        )
        if not isinstance(found.data, ChannelAnswer):
            raise WorkerRequestFailed("the agent answers something else")
        body: dict[str, Any] = from_json(found.data.body or {})
        return body

    async def tell(self, room: str, peer: str, notices: list[ChannelNotice]) -> None:
        """Tell a peer's objects something."""
        subject = subjects.notice(room, peer, ChannelNotices.action)
        await self._bus.publish(subject, self._compose(ChannelNotices(items=notices), subject))

    def _compose(self, payload: Any, subject: str) -> Message:
        return compose(payload, subject=subject, source=self._source)

    # --- what the fleet says --------------------------------------------------------------------------

    async def hear_inbox(self) -> None:
        """Answers and notifications, in order, for ever."""
        while True:
            try:
                delivery = await self._inbox.next(3600)
            except DeadlineExceeded:
                continue
            try:
                await self._hear(delivery)
            except MafaldaError as error:
                log.warning("not understood", action="inbox_unreadable", reason=str(error))

    async def _hear(self, delivery: Delivery) -> None:
        message = decode(delivery.data)
        match message.data:
            case ChannelAnswer() as answer:
                self._resolve(message.causationid, Answer(from_json(answer.body or {})))
            case ChannelNotices(items=items):
                if delivery.reply:
                    await self._bus.publish(delivery.reply, self._compose(Ok(), delivery.reply))
                for item in items:
                    body = from_json(item.body) if item.body is not None else None
                    self._listeners.on_notice(item.handler, item.event, body)

    async def hear_log(self) -> None:
        """Results as they rest in the log, and what happens to servers, for ever."""
        async for delivery in self._follower:
            address = subjects.parse(delivery.subject)
            try:
                message = decode(delivery.data)
            except BadInput:
                continue
            if address is None or not fits(address, message.data):
                continue
            match message.data:
                case JoinResult() as joined:
                    self._joined(address.room or "", address.peer or "", joined)
                case Rejected() as rejected:
                    self._rejected(address.room or "", address.peer or "", message, rejected)
                case Done():
                    self._resolve(message.causationid, Answer({}))
                case Result() as result:
                    self._resolve_later(address.room or "", address.peer or "", message.causationid, result)
                case events.Event() as event:
                    self._server_event(event)

    def _joined(self, room: str, peer: str, joined: JoinResult) -> None:
        joining = self._joining.get((room, peer))
        if joining is None:
            self._listeners.on_moved(room, peer, joined)
        elif not joining.placed.done():
            joining.placed.set_result(joined)

    def _rejected(self, room: str, peer: str, message: Message, rejected: Rejected) -> None:
        error = rejected.error.to_error()
        joining = self._joining.get((room, peer))
        if joining is not None and joining.intent == message.causationid and not joining.placed.done():
            joining.placed.set_exception(error)
            return
        self._resolve(message.causationid, Answer({}, refusal_of(error)))

    def _server_event(self, event: events.Event) -> None:
        lost = self._listeners.on_place_lost
        match event:
            case events.WorkerDied(server=server, worker=worker):
                lost(lambda place: place == Place(server=server, worker=worker))
            case events.ServerLost(server=server) | events.ServerStopped(server=server):
                lost(lambda place: place.server == server)
            case events.ServerStarted(server=server, workers=workers):
                alive = {info.worker for info in workers}
                lost(lambda place: place.server == server and place.worker not in alive)

    def _resolve(self, id: str | None, answer: Answer) -> None:
        pending = self._pending.pop(id, None) if id else None
        if pending is None:
            return
        if pending.timer is not None:
            pending.timer.cancel()
        pending.on_answer(answer)

    def _resolve_later(self, room: str, peer: str, id: str | None, result: Result) -> None:
        """It is done. If the inbox does not say soon what the worker answered, find it elsewhere."""
        pending = self._pending.get(id) if id else None
        if pending is None or pending.timer is not None:
            return

        def lost() -> None:
            task = asyncio.create_task(self._recover(room, peer, id, result), name=f"dropin recovers {id}")
            self._listeners.tasks.add(task)
            task.add_done_callback(self._listeners.tasks.discard)

        pending.timer = asyncio.get_running_loop().call_later(INBOX_LOST_S, lost)

    async def _recover(self, room: str, peer: str, id: str | None, result: Result) -> None:
        """The answer to the making of an object is, but for media, its dump."""
        try:
            match result:
                case ChannelAnswer(intent="create-transport", target=str(target)):
                    answer = Answer(await self.ask(room, peer, make_call("TRANSPORT_DUMP", target, None)))
                case ProduceDataResult(data_producer=target):
                    answer = Answer(await self.ask(room, peer, make_call("DATAPRODUCER_DUMP", target, None)))
                case ConsumeDataResult(data_consumer=target):
                    answer = Answer(await self.ask(room, peer, make_call("DATACONSUMER_DUMP", target, None)))
                case ProduceResult() | ConsumeResult():
                    answer = Answer(_body_of(result))
                case _:
                    answer = Answer({}, failed("it is done, but the worker's answer was lost"))
        except MafaldaError as error:
            answer = Answer({}, refusal_of(error))
        self._resolve(id, answer)

    async def look_after_bus(self) -> None:
        """Notice that the fleet is out of reach for good."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._bus.last_seq()
                heard_at = loop.time()
            except (BusUnavailable, TimeoutError) as error:
                away_s = loop.time() - heard_at
                if away_s >= MAY_BE_AWAY_S:
                    self._listeners.on_fleet_lost(f"the fleet is out of reach for {away_s:.0f} s: {error}")
                    return


@asynccontextmanager
async def open_fleet(bus: Bus, listeners: Listeners) -> AsyncIterator[Fleet]:
    """The fleet behind a bus."""
    async with bus.follow(*_SERVER_EVENTS) as follower, bus.inbox() as inbox:
        fleet = Fleet(bus, follower, inbox, listeners)
        tasks = [
            asyncio.create_task(_guard(work, listeners), name=name)
            for work, name in (
                (fleet.hear_inbox, "dropin inbox"),
                (fleet.hear_log, "dropin log"),
                (fleet.look_after_bus, "dropin bus"),
            )
        ]
        try:
            yield fleet
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _guard(work: Callable[[], Awaitable[None]], listeners: Listeners) -> None:
    """Without its ears the virtual worker is a dead one."""
    try:
        await work()
    except Exception as error:
        log.exception("cannot hear the fleet", action="fleet_unheard")
        listeners.on_fleet_lost(f"cannot hear the fleet: {error}")


def make_call(
    method: str, handler: str, body: dict[str, Any] | None, home: list[str] | None = None, **more: Any
) -> ChannelCall:
    """A request as it travels."""
    return ChannelCall(method=method, handler=handler, body=to_json(body) if body else None, home=home or [], **more)


def _results(room: str) -> str:
    return f"mafalda.room.{room}.peer.*.result.*"


def _body_of(result: Result) -> dict[str, Any]:
    """The worker's answer, as far as the log keeps it."""
    fields = result.to_json_dict()
    return {key: fields[key] for key in ("type", "paused", "producerPaused", "score") if key in fields}
