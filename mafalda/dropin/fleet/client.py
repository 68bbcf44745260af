"""The drop-in's connection to the fleet: joins and intents of its peers, their answers, and what the fleet reports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from mafalda.aio.retry import retrying
from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery, Follower, Inbox
from mafalda.contract import subjects
from mafalda.contract.channels import SERVER_LIFECYCLE_SUBJECTS
from mafalda.contract.messages import events
from mafalda.contract.messages.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.intents import Intent, Join
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import Ok, QueryChannel
from mafalda.contract.messages.results import ChannelAnswer, JoinResult, Result, ResultBatch
from mafalda.contract.reading import read_message
from mafalda.dropin.fleet.answers import OnAnswer, answer_of
from mafalda.dropin.fleet.channel_answers import ChannelAnswers
from mafalda.dropin.fleet.log_silence import watch_log
from mafalda.errors import BadInput, DeadlineExceeded, MafaldaError, NoCapacity
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.session.requests import RequestClient, RequestTimes

#: For a join with its repetitions, and for one query to an agent, in seconds.
JOIN_TIMEOUT_S = QUERY_TIMEOUT_S = 8.0
#: After which an agent ends the lease of a place that nothing was requested at, in seconds. By then it was given back,
#: unless its drop-in is gone.
LEASE_S = 12.0
#: Between two joins while the fleet has no capacity, in seconds; workers report their load each second.
NO_CAPACITY_PAUSE_S = 0.5
#: For an intent, until its request is refused, in seconds. Longer than ``library_request.ANSWER_TIMEOUT_S``, after
#: which the library has its refusal: what is granted in between can still be undone.
INTENT_TIMEOUT_S = 15.0
#: From a stored result until the answer that the inbox has lost is recovered, in seconds.
INBOX_WAIT_S = 1.0
#: How long the log may not answer, in seconds, unless the settings say something else.
FLEET_TIMEOUT_S = 12.0

_log = structlog.get_logger("mafalda.dropin")
OnNotice = Callable[[str, str, dict[str, Any] | None], None]


@dataclass(frozen=True, slots=True)
class FleetCallbacks:
    """Called with what the fleet reports without a request.

    Args:
        on_notice: A notification of a worker: the id of its object, the event, the body.
        on_place_lost: Workers are gone; the argument says whether a place was on one of them.
        on_moved: A peer (room, peer) has another place.
        on_fleet_lost: The fleet is out of reach for good, for this reason.
        on_fleet_silent: The log has not answered for a while, or answers again: a sentence that says so.
        on_no_capacity: A join was refused since the fleet is full.
    """

    on_notice: OnNotice
    on_place_lost: Callable[[Callable[[Place], bool]], None]
    on_moved: Callable[[str, str, JoinResult], None]
    on_fleet_lost: Callable[[str], None]
    on_fleet_silent: Callable[[str], None] = lambda _: None
    on_no_capacity: Callable[[], None] = lambda: None


class FleetClient:
    """Made by ``open_fleet``.

    Attributes:
        application: Its name where people look: its tenant's, else the host's with the process id.
        tasks: Owns the tasks of the peers' sessions.
        jobs: What sessions do, one after the other for each of them.
    """

    def __init__(
        self,
        bus: Bus,
        follower: Follower,
        inbox: Inbox,
        callbacks: FleetCallbacks,
        tasks: TaskScope,
        tenant: str | None = None,
    ) -> None:
        self._bus = bus
        self._follower = follower
        self._inbox = inbox
        self._callbacks = callbacks
        self.tasks = tasks
        self.jobs: SerialExecutor[Hashable] = SerialExecutor(tasks, "dropin session")
        process = f"{socket.gethostname()}-{os.getpid()}"
        self.application = tenant or process
        self._tenant = tenant
        self._source = f"/mafalda/dropin/{process}"
        times = RequestTimes(timeout_s=INTENT_TIMEOUT_S, inbox_wait_s=INBOX_WAIT_S, query_timeout_s=QUERY_TIMEOUT_S)
        answers = ChannelAnswers(self.query)
        self._requests = RequestClient(bus, tasks, inbox.subject, self._source, answers, times)

    # --- requests of peers ----------------------------------------------------------------------------

    async def follow_room(self, room: str) -> None:
        """Follow the results of this room's peers."""
        await self._follower.add(_results(room))

    async def unfollow_room(self, room: str) -> None:
        """End ``follow_room``."""
        await self._follower.remove(_results(room))

    async def join(self, room: str, peer: str, kind: str, beside: str | None = None) -> JoinResult:
        """Join a room as a peer; its place. Joins again while the fleet has no capacity, until the deadline.

        Allocators count what they have just placed as load until a worker's report shows what it really costs. So an
        application that makes many transports at once exceeds the capacity for a moment; a worker would take them.

        Args:
            room: The router's id.
            peer: The object's.
            kind: Of object, for people who look at the fleet.
            beside: The peer on whose worker it is placed if possible.

        Raises:
            NoCapacity: There is no place.
            DeadlineExceeded: Nobody answers.
            MafaldaError: The fleet refuses it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + JOIN_TIMEOUT_S
        intent = self._join_intent(kind, beside)
        pauses = retrying(
            NoCapacity,
            action="join_retry",
            first_s=NO_CAPACITY_PAUSE_S,
            longest_s=NO_CAPACITY_PAUSE_S,
            give_up_after_s=JOIN_TIMEOUT_S - NO_CAPACITY_PAUSE_S,
            room_id=room,
            peer_id=peer,
        )
        try:
            async for attempt in pauses:
                with attempt:
                    timeout_s = max(deadline - loop.time(), NO_CAPACITY_PAUSE_S)
                    try:
                        return await self._requests.request(room, peer, intent, JoinResult, timeout_s=timeout_s)
                    except NoCapacity:
                        self._callbacks.on_no_capacity()
                        raise
        except DeadlineExceeded:
            raise DeadlineExceeded("no worker of the fleet took it in time", waited_s=JOIN_TIMEOUT_S) from None
        raise AssertionError("the last attempt returns or raises")

    async def join_ahead(self, room: str, peer: str, kind: str, beside: str | None = None) -> JoinResult:
        """Join a room as a peer that has nothing yet, with a lease; its place. Arguments as of ``join``.

        Raises:
            MafaldaError: There is no place, or no answer.
        """
        intent = self._join_intent(kind, beside, LEASE_S)
        return await self._requests.request(room, peer, intent, JoinResult, timeout_s=JOIN_TIMEOUT_S)

    def _join_intent(self, kind: str, beside: str | None, lease_s: float | None = None) -> Join:
        return Join(
            app_data={"application": self.application, "is": kind},
            one_transport=True,
            tenant=self._tenant,
            beside=beside,
            lease_s=lease_s,
        )

    async def submit(self, room: str, peer: str, intent: Intent, on_answer: OnAnswer) -> str:
        """Append an intent; return its id as soon as it is in the log.

        Args:
            room: The peer's room.
            peer: Whose intent it is.
            intent: What it asks for.
            on_answer: Called once, at the moment in which the answer arrives.

        Raises:
            MafaldaError: It is not in the log; ``on_answer`` is not called.
        """
        return await self._requests.submit(room, peer, intent, lambda outcome: on_answer(answer_of(outcome)))

    async def query(self, room: str, peer: str, call: ChannelCall) -> ChannelAnswer:
        """Send a request to the worker of a peer, outside the log; its answer.

        Raises:
            MafaldaError: The agent or the worker refuses it, or nobody answers.
        """
        return await self._requests.query(room, peer, QueryChannel(call=call), ChannelAnswer)

    async def publish_notices(self, room: str, peer: str, notices: list[ChannelNotice]) -> None:
        """Send notifications to a peer's objects; not stored, not answered."""
        subject = subjects.notice(room, peer, ChannelNotices.action)
        await self._bus.publish(subject, self._compose(ChannelNotices(items=notices), subject))

    def _compose(self, payload: Any, subject: str) -> Message:
        return compose(payload, subject=subject, source=self._source)

    # --- what the fleet reports -----------------------------------------------------------------------

    async def read_inbox(self) -> None:
        """Take answers and notifications, in order, for ever."""
        while True:
            try:
                delivery = await self._inbox.next(3600)
            except DeadlineExceeded:
                continue
            try:
                await self._take_private(delivery)
            except MafaldaError as error:
                _log.warning("unreadable message in the inbox", action="inbox_unreadable", reason=str(error))

    async def _take_private(self, delivery: Delivery) -> None:
        message = decode(delivery.data)
        match message.data:
            case ChannelAnswer() | ResultBatch():
                self._requests.take_private(message)
            case ChannelNotices(items=items):
                if delivery.reply:
                    await self._bus.publish(delivery.reply, self._compose(Ok(), delivery.reply))
                for item in items:
                    body = from_json(item.body) if item.body is not None else None
                    self._callbacks.on_notice(item.handler, item.event, body)

    async def read_log(self) -> None:
        """Take stored results and the events of servers, for ever."""
        async for delivery in self._follower:
            try:
                address, message = read_message(delivery.subject, delivery.data)
            except BadInput:
                continue
            match message.data:
                case Result() as result:
                    is_ours = self._requests.take_stored(message)
                    if isinstance(result, JoinResult) and not is_ours:
                        self._callbacks.on_moved(address.room or "", address.peer or "", result)
                case events.Event() as event:
                    self._take_server_event(event)

    def _take_server_event(self, event: events.Event) -> None:
        lost = self._callbacks.on_place_lost
        match event:
            case events.WorkerDied(server=server, worker=worker):
                lost(lambda place: place == Place(server=server, worker=worker))
            case events.ServerLost(server=server) | events.ServerStopped(server=server):
                lost(lambda place: place.server == server)
            case events.ServerStarted(server=server, workers=workers):
                alive = {info.worker for info in workers}
                lost(lambda place: place.server == server and place.worker not in alive)


@asynccontextmanager
async def open_fleet(
    bus: Bus, callbacks: FleetCallbacks, timeout_s: float = FLEET_TIMEOUT_S, tenant: str | None = None
) -> AsyncIterator[FleetClient]:
    """The fleet behind a bus, while the block runs.

    Args:
        bus: Connected.
        callbacks: Take what the fleet reports.
        timeout_s: The fleet is lost when the log has not answered for so many seconds.
        tenant: The application's, among several on one fleet.
    """

    def reader_failed(name: str, error: Exception) -> None:
        _log.error("cannot read from the fleet", action="fleet_unreadable", task=name, exc_info=error)
        callbacks.on_fleet_lost(f"cannot read from the fleet: {error}")

    async with (
        bus.follow(*SERVER_LIFECYCLE_SUBJECTS) as follower,
        bus.inbox() as inbox,
        open_tasks() as tasks,
        open_tasks(reader_failed) as readers,
    ):
        fleet = FleetClient(bus, follower, inbox, callbacks, tasks, tenant)
        readers.spawn(fleet.read_inbox(), "dropin inbox")
        readers.spawn(fleet.read_log(), "dropin log")
        readers.spawn(watch_log(bus, timeout_s, callbacks.on_fleet_silent, callbacks.on_fleet_lost), "dropin bus")
        yield fleet


def _results(room: str) -> str:
    return subjects.result(room, "*", "*")
