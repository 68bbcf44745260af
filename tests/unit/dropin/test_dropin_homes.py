"""A home does things in the order in which they are asked, and answers everything, whatever ends meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.intents import CloseProducer, CreateTransport, Intent
from mafalda.contract.messages.results import JoinResult
from mafalda.dropin.fleet import peer_session
from mafalda.dropin.fleet.fleet import Answer, Fleet, OnAnswer, make_call
from mafalda.dropin.fleet.peer_session import Home
from mafalda.dropin.virtual.errors import Refusal
from mafalda.media.rtp import RtpCapabilities
from tests.conformance.mediasoup.driver_samples import until

INTENT = CloseProducer(producer="close-producer")


class _Fleet:
    """Writes down what it is asked; answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: list[OnAnswer] = []
        self.answers_early = self.hangs = False

    async def join(self, room: str, peer: str, what: str) -> JoinResult:
        self.asked.append("join")
        return _joined(1)

    async def intend(self, room: str, peer: str, intent: Intent, on_answer: OnAnswer) -> str:
        self.asked.append(getattr(intent, "producer", intent.action))
        self.answers.append(on_answer)
        if self.answers_early:  # the answer overtakes the log's confirmation
            on_answer(Answer({}))
        await asyncio.sleep(0)
        return "id"

    async def ask(self, room: str, peer: str, call: Any) -> dict[str, Any]:
        self.asked.append(call.method)
        if self.hangs:
            await asyncio.Event().wait()
        return {"id": peer}

    async def tell(self, room: str, peer: str, notices: list[ChannelNotice]) -> None:
        self.asked.append([notice.event for notice in notices])


def _joined(generation: int) -> JoinResult:
    return JoinResult(
        server="s", worker=f"w{generation}", generation=generation, router_rtp_capabilities=RtpCapabilities()
    )


def _home(fleet: _Fleet, *, comes_back: bool = False) -> Home:
    home = Home(cast("Fleet", fleet), "r", "p", "PlainTransport")
    home.comes_back = comes_back
    home.join(lambda _: None)
    return home


def _notice(number: int) -> ChannelNotice:
    return ChannelNotice(event=f"SEND_{number}", handler="p")


async def test_questions_wait_for_answers_and_wishes_do_not() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet)
    home.want(INTENT, answers.append)
    home.want(INTENT, answers.append)
    home.ask(make_call("TRANSPORT_DUMP", "p", None), answers.append)
    await until(lambda: len(fleet.answers) == 2)
    assert fleet.asked == ["join", "close-producer", "close-producer"]
    for answer in fleet.answers:
        answer(Answer({}))
    await home.settled()
    assert fleet.asked[-1] == "TRANSPORT_DUMP"
    assert answers == [Answer({}), Answer({}), Answer({"id": "p"})]


async def test_what_is_told_keeps_its_place_among_what_is_asked() -> None:
    fleet = _Fleet()
    fleet.answers_early = True
    home = _home(fleet)
    home.tell(_notice(1))
    home.tell(_notice(2))
    home.want(INTENT, lambda _: None)
    home.tell(_notice(3))
    await home.settled()
    assert fleet.asked == ["join", ["SEND_1", "SEND_2"], "close-producer", ["SEND_3"]]


async def test_a_lost_place_refuses_what_is_open() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet)
    home.want(INTENT, answers.append)
    await until(lambda: fleet.answers)
    home.lose()
    fleet.answers[0](Answer({}))  # too late, and not said twice
    home.want(INTENT, answers.append)
    await home.settled()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error", "Error"]
    assert fleet.asked == ["join", "close-producer"]


async def test_a_home_that_closes_settles_whoever_waits() -> None:
    """The answer to a leave may come before the log confirms it, and close the home in the middle of its work."""
    fleet = _Fleet()
    fleet.answers_early = True
    home = _home(fleet)
    home.leave(lambda _: home.close())
    async with asyncio.timeout(5):
        await home.settled()
        await home.settled()
    assert fleet.asked == ["join", "leave"]


async def test_a_question_does_not_outlive_the_place_that_it_was_put_to() -> None:
    fleet = _Fleet()
    fleet.hangs = True
    answers: list[Answer] = []
    home = _home(fleet)
    home.ask(make_call("TRANSPORT_DUMP", "p", None), answers.append)
    await until(lambda: "TRANSPORT_DUMP" in fleet.asked)
    home.lose()
    await home.settled()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error"]


async def test_what_comes_back_asks_again_for_what_it_had_and_for_what_was_interrupted() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet, comes_back=True)
    home.holds["had"] = CloseProducer(producer="had")
    home.want(CloseProducer(producer="open"), answers.append)
    await until(lambda: len(fleet.answers) == 1)
    home.lose()
    home.want(CloseProducer(producer="later"), answers.append)
    home.come_back(_joined(2))
    await until(lambda: len(fleet.answers) == 4)
    assert fleet.asked == ["join", "open", "had", "open", "later"]
    assert (home.place.worker if home.place else None, home.generation, home.is_lost) == ("w2", 2, False)
    fleet.answers[0](Answer({"from": "the grave"}))
    there_already = Refusal("Error", "it is there", "already-exists")  # the first time it had reached the new place
    for answer, refusal in zip(fleet.answers[1:], (None, there_already, None), strict=True):
        answer(Answer({}, refusal))
    await home.settled()
    assert answers == [Answer({}), Answer({})]


async def test_a_dead_worker_s_answer_counts_as_none() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet, comes_back=True)
    home.want(CloseProducer(producer="open"), answers.append)
    await until(lambda: fleet.answers)
    fleet.answers[0](Answer({}, Refusal("Error", "the worker died", "worker-died")))
    home.lose()
    home.come_back(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](Answer({}))
    await home.settled()
    assert (answers, fleet.asked) == ([Answer({})], ["join", "open", "open"])


async def test_a_transport_that_is_there_at_the_second_asking_is_dumped() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet, comes_back=True)
    home.want(CreateTransport(transport="p"), answers.append)
    await until(lambda: fleet.answers)
    home.lose()
    home.come_back(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](Answer({}, Refusal("Error", "it is there", "already-exists")))
    await until(lambda: answers)
    assert (answers, fleet.asked[-1]) == ([Answer({"id": "p"})], "TRANSPORT_DUMP")


async def test_a_place_that_is_lost_again_at_once_changes_nothing() -> None:
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet, comes_back=True)
    home.want(CloseProducer(producer="open"), answers.append)
    await until(lambda: fleet.answers)
    for generation in (2, 3):
        home.lose()
        home.come_back(_joined(generation))
    await until(lambda: len(fleet.answers) == 2)
    home.lose()
    assert answers == []
    home.come_back(_joined(4))
    await until(lambda: len(fleet.answers) == 3)
    fleet.answers[2](Answer({}))
    await home.settled()
    assert (answers, fleet.asked) == ([Answer({})], ["join", "open", "open", "open"])


async def test_without_another_place_whoever_waits_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_session, "COME_BACK_WITHIN_S", 0.01)
    fleet = _Fleet()
    answers: list[Answer] = []
    home = _home(fleet, comes_back=True)
    await home.settled()
    home.lose()
    home.want(INTENT, answers.append)
    await home.settled()
    assert [answer.refusal.error for answer in answers if answer.refusal] == ["Error"]
    assert fleet.asked == ["join"]


async def test_who_leaves_while_its_worker_dies_leaves_its_next_place_too() -> None:
    fleet = _Fleet()
    told: list[str] = []
    home = _home(fleet)
    home.leave(lambda _: told.append("answered"), lambda: told.append("left"))
    await until(lambda: fleet.answers)
    home.lose()
    assert told == ["answered"]  # nothing of it is on a worker any more
    home.come_back(_joined(2))
    await until(lambda: len(fleet.answers) == 2)
    home.lose()
    home.come_back(_joined(3))
    await until(lambda: len(fleet.answers) == 3)
    fleet.answers[2](Answer({}))
    assert (told, fleet.asked) == (["answered", "left"], ["join", "leave", "leave", "leave"])


async def test_who_is_refused_to_leave_a_place_that_it_has_not_any_more_leaves_the_one_that_it_has() -> None:
    fleet = _Fleet()
    told: list[str] = []
    home = _home(fleet)
    home.leave(lambda _: told.append("answered"), lambda: told.append("left"))
    await until(lambda: fleet.answers)
    home.come_back(_joined(2))
    fleet.answers[0](Answer({}, Refusal("Error", "the peer has a new place", "worker-died")))
    await until(lambda: len(fleet.answers) == 2)
    fleet.answers[1](Answer({}))
    assert told == ["answered", "left"]
