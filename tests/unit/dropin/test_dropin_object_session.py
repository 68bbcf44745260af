"""A peer's session does things in the order of the requests, and answers everything, whatever ends meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any, cast

import pytest

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.intents import CloseProducer, CreateTransport, Intent
from mafalda.contract.messages.results import ChannelAnswer, JoinResult
from mafalda.dropin.fleet import object_session
from mafalda.dropin.fleet.answers import LibraryAnswer, OnAnswer, Refusal
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.client import FleetClient
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.media.rtp import RtpCapabilities
from tests.conformance.mediasoup.driver_samples import until

INTENT = CloseProducer(producer="close-producer")


class _Fleet:
    """Records what is requested of it; the test answers."""

    def __init__(self) -> None:
        self.tasks = TaskScope()
        self.jobs: SerialExecutor[Hashable] = SerialExecutor(self.tasks, "session")
        self.requests: list[Any] = []
        self.answers: list[OnAnswer] = []
        self.answers_early = self.hangs = False

    async def join(self, room: str, peer: str, kind: str, beside: str | None) -> JoinResult:
        self.requests.append("join")
        return _joined(1)

    async def submit(self, room: str, peer: str, intent: Intent, on_answer: OnAnswer) -> str:
        self.requests.append(getattr(intent, "producer", intent.action))
        self.answers.append(on_answer)
        if self.answers_early:  # the answer overtakes the log's confirmation
            on_answer(LibraryAnswer({}))
        await asyncio.sleep(0)
        return "id"

    async def query(self, room: str, peer: str, call: Any) -> ChannelAnswer:
        self.requests.append(call.method)
        if self.hangs:
            await asyncio.Event().wait()
        return ChannelAnswer(intent="channel", generation=1, accepted=True, body={"id": peer})

    async def publish_notices(self, room: str, peer: str, notices: list[ChannelNotice]) -> None:
        self.requests.append([notice.event for notice in notices])


def _joined(generation: int) -> JoinResult:
    return JoinResult(
        server="s", worker=f"w{generation}", generation=generation, router_rtp_capabilities=RtpCapabilities()
    )


def _session(fleet: _Fleet, *, is_reopened: bool = False) -> ObjectSession:
    session = ObjectSession(cast("FleetClient", fleet), "r", "p", "PlainTransport")
    session.is_reopened = is_reopened
    session.join(lambda _: None)
    return session


def _notice(number: int) -> ChannelNotice:
    return ChannelNotice(event=f"SEND_{number}", handler="p")


async def test_queries_wait_for_answers_and_intents_do_not() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet)
    session.request(INTENT, answers.append)
    session.request(INTENT, answers.append)
    session.query(make_call("TRANSPORT_DUMP", "p", None), answers.append)
    await until(lambda: len(fleet.answers) == 2)
    assert fleet.requests == ["join", "close-producer", "close-producer"]
    for answer in fleet.answers:
        answer(LibraryAnswer({}))
    await session.wait_answered()
    assert fleet.requests[-1] == "TRANSPORT_DUMP"
    assert answers == [LibraryAnswer({}), LibraryAnswer({}), LibraryAnswer({"id": "p"})]


async def test_notices_keep_their_place_among_the_requests() -> None:
    fleet = _Fleet()
    fleet.answers_early = True
    session = _session(fleet)
    session.notify(_notice(1))
    session.notify(_notice(2))
    session.request(INTENT, lambda _: None)
    session.notify(_notice(3))
    await session.wait_answered()
    assert fleet.requests == ["join", ["SEND_1", "SEND_2"], "close-producer", ["SEND_3"]]


async def test_a_lost_place_refuses_what_is_open() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet)
    session.request(INTENT, answers.append)
    await until(lambda: fleet.answers)
    session.lose()
    fleet.answers[0](LibraryAnswer({}))  # too late, and not answered twice
    session.request(INTENT, answers.append)
    await session.wait_answered()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error", "Error"]
    assert fleet.requests == ["join", "close-producer"]


async def test_a_session_that_closes_answers_whoever_waits() -> None:
    """The answer to a leave may come before the log confirms it, and close the session in the middle of its job."""
    fleet = _Fleet()
    fleet.answers_early = True
    session = _session(fleet)
    session.leave(lambda _: session.close())
    async with asyncio.timeout(5):
        await session.wait_answered()
        await session.wait_answered()
    assert fleet.requests == ["join", "leave"]


async def test_a_query_does_not_outlive_the_place_that_it_was_sent_to() -> None:
    fleet = _Fleet()
    fleet.hangs = True
    answers: list[LibraryAnswer] = []
    session = _session(fleet)
    session.query(make_call("TRANSPORT_DUMP", "p", None), answers.append)
    await until(lambda: "TRANSPORT_DUMP" in fleet.requests)
    session.lose()
    await session.wait_answered()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error"]


async def test_what_is_reopened_requests_again_for_what_it_had_and_for_what_was_interrupted() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    session.held["had"] = CloseProducer(producer="had")
    session.request(CloseProducer(producer="open"), answers.append)
    await until(lambda: len(fleet.answers) == 1)
    session.lose()
    session.request(CloseProducer(producer="later"), answers.append)
    session.move(_joined(2))
    await until(lambda: len(fleet.answers) == 4)
    assert fleet.requests == ["join", "open", "had", "open", "later"]
    assert (session.place.worker if session.place else None, session.generation, session.is_lost) == ("w2", 2, False)
    fleet.answers[0](LibraryAnswer({"from": "the grave"}))
    there_already = Refusal("Error", "it is there", "already-exists")  # the first time it had reached the new place
    for answer, refusal in zip(fleet.answers[1:], (None, there_already, None), strict=True):
        answer(LibraryAnswer({}, refusal))
    await session.wait_answered()
    assert answers == [LibraryAnswer({}), LibraryAnswer({})]


async def test_a_dead_worker_s_answer_counts_as_none() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    session.request(CloseProducer(producer="open"), answers.append)
    await until(lambda: fleet.answers)
    fleet.answers[0](LibraryAnswer({}, Refusal("Error", "the worker died", "worker-died")))
    session.lose()
    session.move(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](LibraryAnswer({}))
    await session.wait_answered()
    assert (answers, fleet.requests) == ([LibraryAnswer({})], ["join", "open", "open"])


async def test_a_transport_that_exists_at_the_repeated_request_is_dumped() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    session.request(CreateTransport(transport="p"), answers.append)
    await until(lambda: fleet.answers)
    session.lose()
    session.move(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](LibraryAnswer({}, Refusal("Error", "it is there", "already-exists")))
    await until(lambda: answers)
    assert (answers, fleet.requests[-1]) == ([LibraryAnswer({"id": "p"})], "TRANSPORT_DUMP")


async def test_a_place_that_is_lost_again_at_once_changes_nothing() -> None:
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    session.request(CloseProducer(producer="open"), answers.append)
    await until(lambda: fleet.answers)
    for generation in (2, 3):
        session.lose()
        session.move(_joined(generation))
    await until(lambda: len(fleet.answers) == 2)
    session.lose()
    assert answers == []
    session.move(_joined(4))
    await until(lambda: len(fleet.answers) == 3)
    fleet.answers[2](LibraryAnswer({}))
    await session.wait_answered()
    assert (answers, fleet.requests) == ([LibraryAnswer({})], ["join", "open", "open", "open"])


async def test_without_another_place_whoever_waits_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_session, "REOPEN_TIMEOUT_S", 0.01)
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    await session.wait_answered()
    session.lose()
    session.request(INTENT, answers.append)
    await session.wait_answered()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error"]
    assert fleet.requests == ["join"]


async def test_an_interrupted_request_is_refused_when_there_is_no_next_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_session, "INTENT_TIMEOUT_S", 0.01)
    fleet = _Fleet()
    answers: list[LibraryAnswer] = []
    session = _session(fleet, is_reopened=True)
    session.request(INTENT, answers.append)
    await until(lambda: fleet.answers)
    session.lose()
    await until(lambda: answers)
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error"]
    session.move(_joined(2))
    session.request(CloseProducer(producer="later"), answers.append)
    await until(lambda: len(fleet.answers) == 2)
    assert fleet.requests == ["join", "close-producer", "later"]


async def test_a_peer_that_leaves_while_its_worker_dies_leaves_its_next_place_too() -> None:
    fleet = _Fleet()
    reported: list[str] = []
    session = _session(fleet)
    session.leave(lambda _: reported.append("answered"), lambda: reported.append("left"))
    await until(lambda: fleet.answers)
    session.lose()
    assert reported == ["answered"]  # nothing of it is on a worker any more
    session.move(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    session.lose()
    session.move(_joined(3))
    await until(lambda: len(fleet.answers) == 3)
    fleet.answers[2](LibraryAnswer({}))
    assert (reported, fleet.requests) == (["answered", "left"], ["join", "leave", "leave", "leave"])


async def test_a_peer_that_is_refused_to_leave_a_place_that_it_has_not_any_more_leaves_the_one_that_it_has() -> None:
    fleet = _Fleet()
    reported: list[str] = []
    session = _session(fleet)
    session.leave(lambda _: reported.append("answered"), lambda: reported.append("left"))
    await until(lambda: fleet.answers)
    session.move(_joined(2))
    fleet.answers[0](LibraryAnswer({}, Refusal("Error", "the peer has a new place", "worker-died")))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](LibraryAnswer({}))
    assert reported == ["answered", "left"]
