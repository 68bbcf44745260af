"""Shared work, load reports, requests, inboxes: what is delivered at most once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message, decode, peek_id
from mafalda.contract.messages.results import Done
from mafalda.errors import (
    DeadlineExceeded,
    MafaldaError,
    MalformedMessage,
    NotFound,
    UnknownType,
)

INTENT = subjects.intent("r", "p", "join")
REQUEST = subjects.agent_request("s1", "inventory")


def message(subject: str, target: str | None = None) -> Message:
    return compose(Done(intent="test", generation=1, target=target), subject=subject, source="/agent")


async def test_each_entry_goes_to_one_member_of_a_group(backend: Any, h: Any) -> None:
    async with (
        backend.open() as one,
        backend.open() as two,
        backend.open() as other,
        one.share(subjects.ALL_INTENTS, group="allocator") as first,
        two.share(subjects.ALL_INTENTS, group="allocator") as second,
        other.share(subjects.ALL_INTENTS, group="audit") as alone,
    ):
        seen: Counter[int] = Counter()
        enough = asyncio.Event()

        async def drain(deliveries: Any) -> None:
            async for delivery in deliveries:
                assert delivery.subject == INTENT
                seen[delivery.seq] += 1
                if len(seen) == 60:
                    enough.set()

        drains = [asyncio.create_task(drain(deliveries)) for deliveries in (first, second)]
        await asyncio.gather(*(one.append(INTENT, h.message(INTENT)) for _ in range(60)))
        await h.append(one, subjects.room_event("r", "x"))
        async with asyncio.timeout(10):
            await enough.wait()
        assert [d.seq for d in await h.take(alone, 60)] == list(range(1, 61))
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
        assert set(seen.values()) == {1}


async def test_load_reports_are_delivered_and_the_last_ones_kept(backend: Any, h: Any) -> None:
    async with backend.open() as agent, backend.open() as allocator:
        assert await allocator.latest_loads() == []
        async with allocator.listen(subjects.ALL_LOADS) as loads:
            sent = [(subjects.load(server), h.message(subjects.load(server))) for server in ("a", "b", "a")]
            for subject, message in sent:
                await agent.publish(subject, message)
            received = await h.take(loads, 3)
        assert [(d.subject, decode(d.data), d.seq) for d in received] == [(s, m, 0) for s, m in sent]
        kept = {(subject, message.id) for subject, message in sent[1:]}
        async with asyncio.timeout(60):  # a subscriber has a report before the stream has stored it
            while {(d.subject, decode(d.data).id) for d in await allocator.latest_loads()} != kept:  # noqa: ASYNC110 - stored after it is delivered
                await asyncio.sleep(0.01)
        assert await allocator.last_seq() == 0


async def test_what_the_log_captures_cannot_go_around_it(bus: Bus, h: Any) -> None:
    with pytest.raises(ValueError, match="append there"):
        await bus.publish(INTENT, h.message(INTENT))


async def test_a_request_is_answered(backend: Any, h: Any) -> None:
    async with backend.open() as agent, backend.open() as asker:
        asked: list[Delivery] = []

        async def handler(delivery: Delivery) -> Message:
            asked.append(delivery)
            return message(delivery.subject, target="found")

        async with agent.serve("mafalda.server.s1.request.*", handler=handler):
            question = h.message(REQUEST)
            answer = await asker.request(REQUEST, question, timeout_s=5)
        assert isinstance(answer.data, Done)
        assert answer.data.target == "found"
        assert [(d.subject, decode(d.data), d.seq) for d in asked] == [(REQUEST, question, 0)]
        assert asked[0].reply


async def test_one_of_a_group_replies_and_who_returns_nothing_does_not(backend: Any, bus: Bus, h: Any) -> None:
    served: list[str] = []

    def replying(name: str) -> Any:
        async def reply(request: Delivery) -> Message:
            served.append(name)
            return message(request.reply or "", name)

        return reply

    async def leave_it(request: Delivery) -> None:
        served.append("silent")

    async with (
        backend.open() as one,
        backend.open() as two,
        one.serve(REQUEST, handler=replying("one"), group="servers"),
        two.serve(REQUEST, handler=replying("two"), group="servers"),
        two.serve(REQUEST, handler=leave_it),
    ):
        for number in range(20):
            answer = await bus.request(REQUEST, message(REQUEST), timeout_s=10)
            assert isinstance(answer.data, Done)
            assert answer.data.target in ("one", "two")
            assert sum(name != "silent" for name in served) == number + 1


async def test_a_refusal_arrives_as_its_own_class(backend: Any, bus: Bus, h: Any) -> None:
    async def handler(delivery: Delivery) -> Message:
        raise NotFound("no such transport", transport="t1")

    async with bus.serve(REQUEST, handler=handler):
        with pytest.raises(NotFound) as caught:
            await bus.request(REQUEST, h.message(REQUEST), timeout_s=5)
    assert (caught.value.reason, caught.value.details) == ("no such transport", {"transport": "t1"})


async def test_a_bug_in_a_handler_is_an_answer_too_without_secrets(bus: Bus, h: Any) -> None:
    async def handler(delivery: Delivery) -> Message:
        raise RuntimeError("the password is swordfish")

    async with bus.serve(REQUEST, handler=handler):
        for _ in range(2):  # and the server lives on
            with pytest.raises(MafaldaError) as caught:
                await bus.request(REQUEST, h.message(REQUEST), timeout_s=5)
            assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    "reply", [subjects.intent("r", "p", "leave"), subjects.command("r", "s1", "place-peer"), "elsewhere"]
)
async def test_a_request_cannot_make_its_server_publish_elsewhere(backend: Any, bus: Bus, h: Any, reply: str) -> None:
    handled: list[str] = []

    async def handler(delivery: Delivery) -> Message:
        handled.append(delivery.reply or "")
        return message(delivery.subject)

    async with bus.listen("elsewhere") as published, bus.serve(REQUEST, handler=handler):
        await backend.send_request(REQUEST, h.message(REQUEST), reply)
        await bus.request(REQUEST, h.message(REQUEST), timeout_s=5)  # and the server lives on
        await bus.publish("elsewhere", expected := h.message("elsewhere"))
        assert [decode(d.data) for d in await h.take(published, 1)] == [expected]
    assert reply not in handled
    assert await bus.last_seq() == 0


async def test_a_request_to_nobody_fails_at_once(bus: Bus, h: Any) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded):
            await bus.request(REQUEST, h.message(REQUEST), timeout_s=60)


async def test_a_request_has_a_deadline_and_a_slow_one_blocks_no_other(bus: Bus, h: Any) -> None:
    hang = asyncio.Event()

    async def handler(delivery: Delivery) -> Message:
        if b'"target":"hang"' in delivery.data:
            await hang.wait()
        return message(delivery.subject)

    async with bus.serve(REQUEST, handler=handler):
        slow = asyncio.create_task(bus.request(REQUEST, h.message(REQUEST, target="hang"), timeout_s=0.5))
        assert (await bus.request(REQUEST, h.message(REQUEST), timeout_s=5)).subject == REQUEST
        with pytest.raises(DeadlineExceeded):
            await slow
    # what still hangs was cancelled with the server: ``no_leaked_tasks`` looks


async def test_what_is_unanswered_at_the_end_is_refused(backend: Any, h: Any) -> None:
    asked = asyncio.Event()

    async def handler(_: Delivery) -> Message:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async with backend.open() as client, backend.open() as agent:
        async with agent.serve(REQUEST, handler=handler):
            waiting = asyncio.create_task(client.request(REQUEST, h.message(REQUEST), timeout_s=60))
            await asked.wait()
        async with asyncio.timeout(10):
            with pytest.raises(NotFound):
                await waiting


async def test_bad_requests_are_refused_with_the_reason(backend: Any, bus: Bus, h: Any) -> None:
    async def handler(delivery: Delivery) -> Message:
        return decode(delivery.data)

    unknown = h.message(REQUEST).model_copy(update={"type": "mafalda.intent.dance.v1"})
    async with bus.serve(REQUEST, handler=handler):
        with pytest.raises(UnknownType):
            await bus.request(REQUEST, unknown, timeout_s=5)
        with pytest.raises(MalformedMessage):
            await bus.request(REQUEST, h.message(REQUEST).model_copy(update={"specversion": "0.3"}), timeout_s=5)


async def test_an_inbox_gets_what_is_sent_to_it(backend: Any, h: Any) -> None:
    async with backend.open() as client, backend.open() as agent:
        async with client.inbox() as inbox, client.inbox() as other:
            assert inbox.subject != other.subject
            assert subjects.check_reply(inbox.subject) == inbox.subject
            sent = [h.message(inbox.subject) for _ in range(3)]
            for message in sent:
                await agent.publish(inbox.subject, message)
            assert [peek_id((await inbox.next(5)).data) for _ in sent] == [message.id for message in sent]
            with pytest.raises(DeadlineExceeded):
                await other.next(0.05)
        assert await client.last_seq() == 0
