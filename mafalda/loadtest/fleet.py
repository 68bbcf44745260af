"""The load test's requests to the fleet: intents of many peers in flights, over one connection and one inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.bus.protocol import Bus, Follower, Inbox
from mafalda.contract import subjects
from mafalda.contract.channels import audience_events
from mafalda.contract.messages import events
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import QueryTransport
from mafalda.contract.messages.results import Result, TransportResult
from mafalda.contract.reading import read_message
from mafalda.errors import DeadlineExceeded, MafaldaError
from mafalda.session.requests import Outcome, RequestClient, RequestTimes, as_expected

P = TypeVar("P", bound=Payload)

#: What happens to a peer that has its place no more.
_LOST = (events.PeerMoved, events.PeerLeft, events.PeerStranded)
#: Consumers of a subscription.
ConsumersEvent = events.ConsumersOpened | events.ConsumersClosed
_CONSUMERS = (events.ConsumersOpened, events.ConsumersClosed)

_log = structlog.get_logger(__name__)


class FleetRequests:
    """Made by ``open_requests``."""

    def __init__(self, bus: Bus, tasks: TaskScope, reply_subject: str, timeout_s: float) -> None:
        times = RequestTimes(timeout_s=timeout_s, retry_interval_s=5.0, query_timeout_s=timeout_s)
        self._client = RequestClient(bus, tasks, reply_subject, "/mafalda/load-test", self, times)
        self._on_loss: dict[tuple[str, str], Callable[[str], None]] = {}
        self._on_consumers: dict[tuple[str, str], Callable[[ConsumersEvent], None]] = {}

    def watch(self, room: str, peer: str, on_loss: Callable[[str], None]) -> None:
        """Call ``on_loss`` with the reason when the fleet takes the peer's place away, until ``unwatch``."""
        self._on_loss[room, peer] = on_loss

    def watch_consumers(self, room: str, peer: str, on_consumers: Callable[[ConsumersEvent], None]) -> None:
        """Call ``on_consumers`` with what is said of the peer's subscriptions, until ``unwatch``."""
        self._on_consumers[room, peer] = on_consumers

    def unwatch(self, room: str, peer: str) -> None:
        """End ``watch`` and ``watch_consumers``."""
        self._on_loss.pop((room, peer), None)
        self._on_consumers.pop((room, peer), None)

    async def send(self, room: str, peer: str, *intents: Intent) -> list[asyncio.Future[Outcome]]:
        """Append intents of one peer in this order without awaiting results; returns a future for each outcome.

        Raises:
            MafaldaError: One could not be stored; what was stored before it goes on.
        """
        loop = asyncio.get_running_loop()
        outcomes = []
        for intent in intents:
            outcome: asyncio.Future[Outcome] = loop.create_future()
            await self._client.submit(room, peer, intent, _resolver(outcome))
            outcomes.append(outcome)
        return outcomes

    async def request(self, room: str, peer: str, intent: Intent, expected: type[P]) -> P:
        """Append an intent and await its result.

        Raises:
            MafaldaError: It is rejected, cannot be stored, or has no result in time.
        """
        return await self._client.request(room, peer, intent, expected)

    async def read_log(self, follower: Follower) -> None:
        """Pass results and lost places on, until it is cancelled."""
        async for delivery in follower:
            try:
                address, message = read_message(delivery.subject, delivery.data)
            except MafaldaError as error:
                _log.warning("unreadable", action="load_read", subject=delivery.subject, reason=str(error))
                continue
            if isinstance(message.data, Result):
                self._client.take_stored(message)
            elif isinstance(message.data, _LOST):
                on_loss = self._on_loss.pop((address.room or "", message.data.peer), None)
                if on_loss is not None:
                    on_loss(message.data.action)
            elif isinstance(message.data, _CONSUMERS):
                on_consumers = self._on_consumers.get((address.room or "", address.peer or ""))
                if on_consumers is not None:
                    on_consumers(message.data)

    async def read_inbox(self, inbox: Inbox) -> None:
        """Pass private answers on, until it is cancelled."""
        while True:
            try:
                self._client.take_private(decode((await inbox.next(timeout_s=60.0)).data))
            except DeadlineExceeded:
                continue
            except MafaldaError as error:
                _log.warning("unreadable", action="load_inbox", reason=str(error))

    # --- private answers ------------------------------------------------------------------------------

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        """Whether a stored result is all that was asked for; a transport's lacks the ICE password."""
        return not isinstance(stored, TransportResult) or stored.ice_parameters is not None

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        """A transport's parameters with the ICE password, from the agent."""
        assert isinstance(stored, TransportResult)
        return await self._client.query(room, peer, QueryTransport(transport=stored.transport), TransportResult)


def _resolver(future: asyncio.Future[Outcome]) -> Callable[[Outcome], None]:
    def resolve(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return resolve


async def outcome_of(future: asyncio.Future[Outcome], expected: type[P]) -> P:
    """Await an outcome of ``FleetRequests.send``.

    Raises:
        MafaldaError: The intent was rejected, or has no result in time.
    """
    return as_expected(await future, expected)


@asynccontextmanager
async def open_requests(bus: Bus, rooms: Sequence[str], timeout_s: float) -> AsyncIterator[FleetRequests]:
    """Follow the results in these rooms, and open the private inbox.

    Args:
        bus: Connected.
        rooms: Ids.
        timeout_s: For each request.
    """
    patterns: list[str] = []
    for room in rooms:
        patterns.append(subjects.result(room, "*", "*"))
        patterns.extend(subjects.room_event(room, each.action) for each in _LOST)
        patterns.extend(audience_events(room, *(each.action for each in _LOST)))
        patterns.extend(f"mafalda.room.{room}.peer.*.event.{each.action}" for each in _CONSUMERS)
    async with bus.inbox() as inbox, bus.follow(*patterns) as follower, open_tasks() as tasks:
        requests = FleetRequests(bus, tasks, inbox.subject, timeout_s)
        tasks.spawn(requests.read_log(follower), "load-test results")
        tasks.spawn(requests.read_inbox(inbox), "load-test inbox")
        yield requests
