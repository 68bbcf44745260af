"""The drop-in's client of the fleet on a bus: joins, answers, moves and lost places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages import events
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import CreateTransport, Join
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.results import ChannelAnswer, JoinResult, Rejected, Result
from mafalda.dropin.fleet import client, log_silence
from mafalda.dropin.fleet.answers import LibraryAnswer
from mafalda.dropin.fleet.client import FleetCallbacks, FleetClient, open_fleet
from mafalda.errors import DeadlineExceeded, NoCapacity
from mafalda.media.rtp import RtpCapabilities
from mafalda.testing.memory_bus import MemoryBus

ROOM, PEER = "router", "transport"
CREATE = CreateTransport(transport=PEER)


class Fleet:
    """The client under test, the bus that it is on, and everything that it reported, in order."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.reports: asyncio.Queue[Any] = asyncio.Queue()
        self.is_lost: Callable[[Place], bool] = lambda _: False
        self.client: FleetClient

    def callbacks(self) -> FleetCallbacks:
        def place_lost(is_lost: Callable[[Place], bool]) -> None:
            self.is_lost = is_lost
            self.reports.put_nowait("place lost")

        return FleetCallbacks(
            on_notice=lambda *notice: self.reports.put_nowait(notice),
            on_place_lost=place_lost,
            on_moved=lambda room, peer, joined: self.reports.put_nowait((room, peer, joined.generation)),
            on_fleet_lost=self.reports.put_nowait,
        )

    async def report(self) -> Any:
        async with asyncio.timeout(10):
            return await self.reports.get()

    async def submit(self) -> None:
        """Have a transport made; its answer is among the reports."""
        await self.client.submit(ROOM, PEER, CREATE, self.reports.put_nowait)

    async def append(self, subject: str, payload: Payload, cause: Message | None = None) -> None:
        await self.bus.append(subject, compose(payload, subject=subject, source="/agent", cause=cause))

    async def append_result(self, action: str, result: Result, cause: Message | None = None) -> None:
        await self.append(subjects.result(ROOM, PEER, action), result, cause)

    async def publish_private(self, intent: Delivery, payload: Payload) -> None:
        inbox = intent.headers[REPLY_HEADER]
        await self.bus.publish(inbox, compose(payload, subject=inbox, source="/agent", cause=decode(intent.data)))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    async with open_fleet(made.bus, made.callbacks()) as made.client:
        await made.client.follow_room(ROOM)
        yield made


@asynccontextmanager
async def intents(fleet: Fleet) -> AsyncIterator[AsyncIterator[Delivery]]:
    """The peer's intents as they are stored."""
    async with fleet.bus.follow(subjects.intent(ROOM, PEER, "*")) as follower:
        yield follower


def joined(generation: int) -> JoinResult:
    return JoinResult(server="s", worker="w", generation=generation, router_rtp_capabilities=RtpCapabilities())


def created(body: dict[str, Any] | None) -> ChannelAnswer:
    return ChannelAnswer(intent="create-transport", target=PEER, generation=1, accepted=True, body=body)


async def test_a_join_is_repeated_while_the_fleet_has_no_capacity(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "NO_CAPACITY_PAUSE_S", 0.01)
    async with intents(fleet) as stored, asyncio.timeout(10):
        joining = asyncio.create_task(fleet.client.join(ROOM, PEER, "PlainTransport"))
        ids = []
        for result in (Rejected(intent="join", error=ErrorInfo.of(NoCapacity("full"))), joined(1)):
            intent = decode((await anext(stored)).data)
            assert isinstance(intent.data, Join)
            ids.append(intent.id)
            await fleet.append_result("join", result, intent)
        assert await joining == joined(1)
        assert len(set(ids)) == 2, "a join that was rejected is a new intent"
    assert fleet.reports.empty(), "the answer to a join is no move"


async def test_an_answer_comes_whole_by_the_inbox_and_before_what_follows_it(fleet: Fleet) -> None:
    async with intents(fleet) as stored, asyncio.timeout(10):
        await fleet.submit()
        intent = await anext(stored)
        await fleet.publish_private(intent, created({"id": PEER}))
        notice = ChannelNotice(event="PRODUCER_SCORE", handler="p", body={"scores": []})
        await fleet.publish_private(intent, ChannelNotices(items=[notice]))
        assert await fleet.report() == LibraryAnswer({"id": PEER})
        assert await fleet.report() == ("p", "PRODUCER_SCORE", {"scores": []})


async def test_an_answer_that_the_inbox_lost_is_recovered_from_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "INBOX_WAIT_S", 0.01)
    fleet = Fleet()
    calls = []

    async def dump(delivery: Delivery) -> Message:
        query = decode(delivery.data)
        calls.append((query.data.to_json_dict()["call"]["method"], query.data.to_json_dict()["call"]["handler"]))
        return compose(created({"id": "dumped"}), subject=delivery.reply or "", source="/agent", cause=query)

    async with (
        open_fleet(fleet.bus, fleet.callbacks()) as fleet.client,
        fleet.bus.serve(subjects.query(ROOM, PEER, "channel"), handler=dump),
        intents(fleet) as stored,
        asyncio.timeout(10),
    ):
        await fleet.client.follow_room(ROOM)
        await fleet.submit()
        intent = await anext(stored)
        await fleet.append_result("create-transport", created(None), decode(intent.data))
        assert await fleet.report() == LibraryAnswer({"id": "dumped"})
        assert calls == [("TRANSPORT_DUMP", PEER)]


async def test_an_intent_that_nobody_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "INTENT_TIMEOUT_S", 0.02)
    fleet = Fleet()
    async with open_fleet(fleet.bus, fleet.callbacks()) as fleet.client:
        await fleet.submit()
        answer = await fleet.report()
        assert answer.refusal is not None
        assert (answer.refusal.error, answer.refusal.code) == ("Error", DeadlineExceeded.code)


async def test_a_placement_that_answers_no_join_is_a_move(fleet: Fleet) -> None:
    await fleet.append_result("join", joined(2))
    assert await fleet.report() == (ROOM, PEER, 2)


@pytest.mark.parametrize(
    ("event", "lost"),
    [
        (events.WorkerDied(server="s1", worker="w1", incarnation="i", exit_code=1, signal=None), {"w1"}),
        (events.ServerStopped(server="s1", incarnation="i"), {"w1", "w2"}),
    ],
)
async def test_the_places_of_dead_workers_are_reported(fleet: Fleet, event: events.Event, lost: set[str]) -> None:
    await fleet.append(subjects.server_event("s1", event.action), event)
    assert await fleet.report() == "place lost"
    places = [Place(server="s1", worker="w1"), Place(server="s1", worker="w2"), Place(server="s2", worker="w3")]
    assert {place.worker for place in places if fleet.is_lost(place)} == lost


class SilentBus(MemoryBus):
    """A bus whose log does not answer, until it does again."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.answers = asyncio.Event()

    async def last_seq(self) -> int:
        self.requests += 1
        await self.answers.wait()
        return await super().last_seq()


async def test_a_log_that_is_silent_is_reported_and_a_late_answer_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_silence, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(log_silence, "REPORT_AFTER_S", 0.05)
    bus, said, lost = SilentBus(), asyncio.Queue[str](), asyncio.Queue[str]()
    async with asyncio.timeout(10), open_tasks() as tasks:
        tasks.spawn(log_silence.watch_log(bus, 60, said.put_nowait, lost.put_nowait), "watch")
        assert "no answer to any request" in await said.get()
        bus.answers.set()
        assert await said.get() == "the log answers again"
        assert lost.empty()


async def test_a_log_that_never_answers_is_lost_with_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_silence, "CHECK_INTERVAL_S", 0.01)
    lost: list[str] = []
    async with asyncio.timeout(10):
        await log_silence.watch_log(SilentBus(), 0.1, lambda _: None, lost.append)
    assert len(lost) == 1
    assert lost[0].startswith("the fleet is out of reach for 0 s: no answer ")
