"""What one peer requests in one turn of the event loop is one message, and each of its intents has its own outcome."""

from __future__ import annotations

import asyncio

from mafalda.bus.compose import compose
from mafalda.contract import subjects
from mafalda.contract.batches import batched_result, read_intents
from mafalda.contract.messages.batches import MAX_BATCHED
from mafalda.contract.messages.envelope import Message, decode, encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import IntentBatch, Join, Leave, PauseConsumer, ResumeConsumer
from mafalda.contract.messages.results import Done, Rejected, Result, ResultBatch
from mafalda.errors import MafaldaError, NotFound, NotJoined, UnknownType

from .test_session_requests import PEER, ROOM, Requests, opened

NAMES = ("a", "b", "c")


def submit_all(requests: Requests, *names: str) -> list[asyncio.Task[str]]:
    """Submit an intent about each of these consumers in one turn of the loop."""
    client, put = requests.client, requests.outcomes.put_nowait
    return [asyncio.create_task(client.submit(ROOM, PEER, ResumeConsumer(consumer=name), put)) for name in names]


def batch_of(message: Message) -> list[Message]:
    """The intents of a batch, as its reader gets them."""
    return [item for item, error in read_intents(decode(encode(message))) if error is None]


def answer(batch: Message, result: Result) -> Message:
    """A result on its way."""
    subject = subjects.result(ROOM, PEER, batch.data.action)
    return decode(encode(compose(result, subject=subject, source="/agent", cause=batch)))


def done(name: str) -> Done:
    return Done(intent="resume-consumer", target=name, generation=1)


async def test_intents_of_one_turn_are_one_message_in_their_order() -> None:
    async with opened() as requests:
        ids = await asyncio.gather(*submit_all(requests, *NAMES))
        (batch,) = requests.bus.appended
        found = batch_of(batch)
        assert [it.data for it in found] == [ResumeConsumer(consumer=name) for name in NAMES]
        assert [it.id for it in found] == ids
        assert requests.bus.reply_subjects == ["_INBOX.x"]
        await requests.submit(PauseConsumer(consumer="a"))
        assert isinstance(requests.bus.appended[-1].data, PauseConsumer), "alone, it needs no batch"


async def test_each_intent_of_a_batch_has_its_own_result() -> None:
    async with opened() as requests:
        await asyncio.gather(*submit_all(requests, *NAMES))
        (batch,) = requests.bus.appended
        first, second, third = batch_of(batch)
        refused = Rejected(intent="resume-consumer", error=ErrorInfo.of(NotFound("no such consumer")))
        results = ResultBatch(items=[batched_result(first, done("a")), batched_result(second, refused)])
        assert requests.client.take_stored(answer(batch, results))
        outcomes = [requests.outcomes.get_nowait(), requests.outcomes.get_nowait()]
        assert outcomes[0] == done("a")
        assert isinstance(outcomes[1], NotFound)
        assert not requests.client.take_stored(answer(batch, results)), "counted twice"
        assert requests.client.take_stored(answer(third, done("c"))), "later, by itself"
        assert requests.outcomes.get_nowait() == done("c")


async def test_a_batch_that_is_refused_is_refused_for_each_intent() -> None:
    async with opened() as requests:
        await asyncio.gather(*submit_all(requests, *NAMES))
        (batch,) = requests.bus.appended
        refused = Rejected(intent="batch", error=ErrorInfo.of(NotJoined("the peer has not joined")))
        assert requests.client.take_stored(answer(batch, refused))
        outcomes = [requests.outcomes.get_nowait() for _ in NAMES]
        assert all(isinstance(it, NotJoined) for it in outcomes)


async def test_servers_that_know_no_batches_get_each_intent_by_itself() -> None:
    async with opened() as requests:
        ids = await asyncio.gather(*submit_all(requests, *NAMES))
        (batch,) = requests.bus.appended
        unknown = Rejected(intent="batch", error=ErrorInfo.of(UnknownType("unknown type")))
        assert requests.client.take_stored(answer(batch, unknown))
        await requests.bus.wait_for_appends(4)
        assert [it.id for it in requests.bus.appended[1:]] == ids
        await asyncio.gather(*submit_all(requests, "d", "e"))
        assert not any(isinstance(it.data, IntentBatch) for it in requests.bus.appended[1:])


async def test_a_join_and_a_leave_are_never_batched_and_keep_their_place() -> None:
    async with opened() as requests:
        client, put = requests.client, requests.outcomes.put_nowait
        intents = [Join(), ResumeConsumer(consumer="a"), ResumeConsumer(consumer="b"), Leave()]
        await asyncio.gather(*(client.submit(ROOM, PEER, intent, put) for intent in intents))
        assert [type(it.data) for it in requests.bus.appended] == [Join, IntentBatch, Leave]


async def test_many_intents_are_several_batches() -> None:
    async with opened() as requests:
        names = [f"c{number}" for number in range(MAX_BATCHED + 2)]
        await asyncio.gather(*submit_all(requests, *names))
        sent = [
            it.data.consumer
            for batch in requests.bus.appended
            for it in batch_of(batch)
            if isinstance(it.data, ResumeConsumer)
        ]
        assert sent == names
        assert len(requests.bus.appended) == 2


async def test_a_batch_that_cannot_be_stored_fails_each_submit() -> None:
    async with opened() as requests:
        requests.bus.is_failing = True
        outcomes = await asyncio.gather(*submit_all(requests, *NAMES), return_exceptions=True)
        assert [type(it).__name__ for it in outcomes] == ["BusUnavailable"] * 3
        assert all(isinstance(it, MafaldaError) for it in outcomes)
        assert requests.outcomes.empty()


async def test_an_item_that_cannot_be_read_spoils_no_other() -> None:
    async with opened() as requests:
        await asyncio.gather(*submit_all(requests, *NAMES))
        (batch,) = requests.bus.appended
        raw = encode(batch).replace(b'"consumer":"b"', b'"consumer":"not an id"')
        found = list(read_intents(decode(raw)))
        assert [error is None for _, error in found] == [True, False, True]
        assert len({item.id for item, _ in found}) == 3
