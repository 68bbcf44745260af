"""Pending requests on a bus: how an outcome is found, and that there is one for every request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.bus.compose import compose
from mafalda.bus.protocol import GENERATION_HEADER, REPLY_HEADER, Appended, Delivery, Expect
from mafalda.client.config import ClientConfig
from mafalda.client.requests import PeerRequests
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import CreateTransport, Intent, Join, Leave
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import Done, JoinResult, Rejected, Result, TransportResult
from mafalda.errors import (
    BusUnavailable,
    DeadlineExceeded,
    MalformedMessage,
    NoCapacity,
    NotFound,
    StaleGeneration,
    WorkerExited,
)
from mafalda.media.rtp import RtpCapabilities
from mafalda.session.requests import Outcome, RequestClient, RequestTimes
from mafalda.testing.media import DTLS, ICE
from mafalda.testing.memory_bus import MemoryBus

ROOM, PEER = "lobby", "alice"
#: Where nothing but the test itself may end a wait.
LONG = RequestTimes(timeout_s=60, retry_interval_s=60, inbox_wait_s=60, query_timeout_s=60)


class Bus(MemoryBus):
    """Records each append, also of what is stored already, and fails while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Message] = []
        self.reply_subjects: list[str] = []
        self.is_failing = False
        self.progress = asyncio.Condition()

    async def append(
        self, subject: str, message: Message, *, expect: Expect | None = None, headers: Mapping[str, str] | None = None
    ) -> Appended:
        self.appended.append(message)
        self.reply_subjects.append((headers or {}).get(REPLY_HEADER, ""))
        async with self.progress:
            self.progress.notify_all()
        if self.is_failing:
            raise BusUnavailable("no quorum")
        return await super().append(subject, message, expect=expect, headers=headers)

    async def wait_for_appends(self, number: int) -> Message:
        """The last of so many appends."""
        async with asyncio.timeout(10), self.progress:
            await self.progress.wait_for(lambda: len(self.appended) >= number)
        return self.appended[number - 1]


class Answers:
    """Stored transports lack their ICE parameters; they are recovered, or an error is."""

    def __init__(self) -> None:
        self.recovered: list[Payload] = []
        self.error: NotFound | None = None

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        return not isinstance(stored, TransportResult) or stored.ice_parameters is not None

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        assert (room, peer) == (ROOM, PEER)
        self.recovered.append(stored)
        if self.error is not None:
            raise self.error
        return transport(secret=True)


def transport(*, secret: bool) -> TransportResult:
    return TransportResult(
        transport="t", generation=1, ice_parameters=ICE if secret else None, ice_candidates=[], dtls_parameters=DTLS
    )


def result_of(intent: Message, result: Result, cause: Message | None = None) -> Message:
    """A result on its way, caused by the intent if by nothing else."""
    action = intent.data.action
    return compose(result, subject=subjects.result(ROOM, PEER, action), source="/agent", cause=cause or intent)


class Requests:
    """A request client, what it runs on, and the outcomes that it reported."""

    def __init__(self, client: RequestClient, bus: Bus, answers: Answers) -> None:
        self.client, self.bus, self.answers = client, bus, answers
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

    async def submit(self, intent: Intent) -> Message:
        """The intent's message as it was appended."""
        before = len(self.bus.appended)
        await self.client.submit(ROOM, PEER, intent, self.outcomes.put_nowait)
        return self.bus.appended[before]

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(10):
            return await self.outcomes.get()


@asynccontextmanager
async def opened(times: RequestTimes = LONG) -> AsyncIterator[Requests]:
    bus, answers = Bus(), Answers()
    async with open_tasks() as tasks:
        yield Requests(RequestClient(bus, tasks, "_INBOX.x", "/test", answers, times), bus, answers)


async def test_a_stored_result_is_the_outcome_of_the_intent_that_caused_it() -> None:
    async with opened() as requests:
        first, second = await requests.submit(Leave()), await requests.submit(Leave())
        assert requests.client.take_stored(result_of(second, Done(intent="leave", target="2", generation=1)))
        assert requests.client.take_stored(result_of(first, Done(intent="leave", target="1", generation=1)))
        found = [await requests.outcome(), await requests.outcome()]
        assert [isinstance(it, Done) and it.target for it in found] == ["2", "1"]
        assert requests.bus.reply_subjects == ["_INBOX.x"] * 2
        assert not requests.client.take_stored(result_of(first, Done(intent="leave", generation=1))), "counted twice"


async def test_an_outcome_is_reported_before_the_next_message_is_taken() -> None:
    async with opened() as requests:
        intent = await requests.submit(CreateTransport(transport="t"))
        requests.client.take_private(result_of(intent, transport(secret=True)))
        assert requests.outcomes.get_nowait() == transport(secret=True)


async def test_a_join_is_answered_by_what_its_placement_caused() -> None:
    async with opened() as requests:
        joining = asyncio.create_task(requests.client.request(ROOM, PEER, Join(), JoinResult))
        join = await requests.bus.wait_for_appends(1)
        placement = compose(Done(intent="join", generation=1), subject="x", source="/allocator", cause=join)
        joined = JoinResult(server="s", worker="w", generation=1, router_rtp_capabilities=RtpCapabilities())
        assert requests.client.take_stored(result_of(join, joined, cause=placement))
        assert await joining == joined


async def test_a_rejection_is_raised_as_its_own_class() -> None:
    async with opened() as requests:
        joining = asyncio.create_task(requests.client.request(ROOM, PEER, Join(), JoinResult))
        join = await requests.bus.wait_for_appends(1)
        error = ErrorInfo.of(NoCapacity("every worker is full"))
        requests.client.take_stored(result_of(join, Rejected(intent="join", error=error)))
        with pytest.raises(NoCapacity, match="every worker is full"):
            await joining


async def test_a_result_of_another_class_is_an_error() -> None:
    async with opened() as requests:
        leaving = asyncio.create_task(requests.client.request(ROOM, PEER, Leave(), JoinResult))
        leave = await requests.bus.wait_for_appends(1)
        requests.client.take_stored(result_of(leave, Done(intent="leave", generation=1)))
        with pytest.raises(MalformedMessage):
            await leaving


async def test_an_intent_without_a_result_is_appended_again_with_its_id_and_stored_once() -> None:
    async with opened(RequestTimes(timeout_s=60, retry_interval_s=0.01)) as requests:
        intent = await requests.submit(Leave())
        await requests.bus.wait_for_appends(4)
        assert {message.id for message in requests.bus.appended} == {intent.id}
        stored = [decode(entry.data).id async for entry in requests.bus.read(subjects.intent(ROOM, PEER, "leave"))]
        assert stored == [intent.id]
        requests.client.take_stored(result_of(intent, Done(intent="leave", generation=1)))
        assert isinstance(await requests.outcome(), Done)


async def test_what_cannot_be_appended_again_may_still_be_answered() -> None:
    async with opened(RequestTimes(timeout_s=60, retry_interval_s=0.01)) as requests:
        intent = await requests.submit(Leave())
        requests.bus.is_failing = True
        await requests.bus.wait_for_appends(3)
        assert requests.outcomes.empty()
        requests.client.take_stored(result_of(intent, Done(intent="leave", generation=1)))
        assert isinstance(await requests.outcome(), Done)


async def test_every_pending_request_has_a_deadline() -> None:
    async with opened(RequestTimes(timeout_s=0.02, retry_interval_s=60)) as requests:
        intent = await requests.submit(Leave())
        assert isinstance(await requests.outcome(), DeadlineExceeded)
        assert not requests.client.take_stored(result_of(intent, Done(intent="leave", generation=1)))
        with pytest.raises(DeadlineExceeded):
            await requests.client.request(ROOM, PEER, Leave(), Done)


async def test_what_cannot_be_stored_is_raised_and_has_no_outcome() -> None:
    async with opened() as requests:
        requests.bus.is_failing = True
        with pytest.raises(BusUnavailable):
            await requests.submit(Leave())
        assert requests.outcomes.empty()
        assert not requests.client.take_stored(result_of(requests.bus.appended[0], Done(intent="leave", generation=1)))


async def test_the_private_answer_counts_where_the_stored_one_is_incomplete() -> None:
    async with opened() as requests:
        intent = await requests.submit(CreateTransport(transport="t"))
        assert requests.client.take_stored(result_of(intent, transport(secret=False)))
        assert requests.outcomes.empty()
        assert requests.client.take_private(result_of(intent, transport(secret=True)))
        assert await requests.outcome() == transport(secret=True)
        assert requests.answers.recovered == []


async def test_a_private_answer_that_was_lost_is_recovered() -> None:
    async with opened(RequestTimes(timeout_s=60, retry_interval_s=60, inbox_wait_s=0.01)) as requests:
        for error in (None, NotFound("no such transport")):
            requests.answers.error = error
            intent = await requests.submit(CreateTransport(transport="t"))
            requests.client.take_stored(result_of(intent, transport(secret=False)))
            outcome = await requests.outcome()
            assert outcome is error or outcome == transport(secret=True)
        assert requests.answers.recovered == [transport(secret=False)] * 2


async def test_a_cancelled_request_is_not_pending_any_more() -> None:
    async with opened() as requests:
        leaving = asyncio.create_task(requests.client.request(ROOM, PEER, Leave(), Done))
        intent = await requests.bus.wait_for_appends(1)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert not requests.client.take_stored(result_of(intent, Done(intent="leave", generation=1)))


async def test_an_intent_names_the_only_place_that_it_is_meant_for() -> None:
    """What is about objects of a place names it; what is about the peer is done wherever the peer is."""
    bus = MemoryBus()
    async with open_tasks() as tasks:
        requests = PeerRequests(bus, tasks, "_INBOX.alice", ROOM, PEER, ClientConfig())
        for generation in (0, 3):
            requests.generation = generation
            for intent in (CreateTransport(transport="t"), Leave()):
                tasks.spawn(requests.request(intent, Done), "request")
            await asyncio.sleep(0)  # they begin at this place
        async with bus.follow(subjects.ALL_INTENTS, after_seq=0) as follower, asyncio.timeout(10):
            found = [
                (entry.subject.rpartition(".")[2], entry.headers.get(GENERATION_HEADER))
                async for entry in first(follower, 4)
            ]
    assert found == [("create-transport", None), ("leave", None), ("create-transport", "3"), ("leave", None)]


async def test_a_refusal_by_a_later_place_says_that_the_former_is_gone() -> None:
    bus = MemoryBus()
    async with open_tasks() as tasks:
        requests = PeerRequests(bus, tasks, "_INBOX.alice", ROOM, PEER, ClientConfig())
        requests.generation = 1
        asking = asyncio.create_task(requests.request(CreateTransport(transport="t"), Done))
        async with bus.follow(subjects.ALL_INTENTS, after_seq=0) as follower, asyncio.timeout(10):
            intent = decode((await anext(follower)).data)
        stale = ErrorInfo.of(StaleGeneration("it names an earlier place"))
        subject = subjects.result(ROOM, PEER, "create-transport")
        refused = Rejected(intent="create-transport", error=stale)
        requests.take_stored(compose(refused, subject=subject, source="/test", cause=intent))
        with pytest.raises(WorkerExited):
            await asking


async def first(follower: AsyncIterator[Delivery], number: int) -> AsyncIterator[Delivery]:
    """So many entries."""
    for _ in range(number):
        yield await anext(follower)
