"""Intents that were meant for an earlier place of their peer are refused; those that wait for a place are done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mafalda import errors
from mafalda.bus.protocol import Appended
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Place
from mafalda.testing.media import DTLS
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from tests.component.workers.agent_world import Client, Fleet

CONNECT = intents.ConnectTransport(transport="send", dtls_parameters=DTLS)
GONE = Place(server="s2", worker="s2-0")


class SlowToReportPlaces(MemoryBus):
    """Stores the result of a peer's second placement only when it is released."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, name="s1")
        self.released = asyncio.Event()

    async def append(self, subject: str, message: Message, **options: Any) -> Appended:
        if isinstance(message.data, results.JoinResult) and message.data.generation > 1:
            await self.released.wait()
        return await super().append(subject, message, **options)


async def placed_again(fleet: Fleet) -> tuple[Client, SlowToReportPlaces]:
    """Alice, whose second placement is in the log while its result is not."""
    bus = SlowToReportPlaces(fleet.broker)
    await fleet.start("s1", workers=2, bus=bus)
    first, second = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", first)
    await alice.transport("send")
    await fleet.place("lobby", "alice", second, generation=2, cause="worker-died")
    return alice, bus


async def report_place(fleet: Fleet, bus: SlowToReportPlaces) -> None:
    bus.released.set()
    await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)


async def test_what_was_sent_before_the_peer_had_its_place_is_refused(fleet: Fleet) -> None:
    alice, bus = await placed_again(fleet)
    flight = [
        await alice.send(intents.CreateTransport(transport="send")),
        await alice.send(CONNECT),
        await alice.send(alice.produce_intent("mic", "send")),
    ]
    update = await alice.send(intents.SetAppData(app_data={"name": "Alice"}))
    await report_place(fleet, bus)

    for message in flight:
        with pytest.raises(errors.StaleGeneration):
            await alice.answer(message, results.Done)
    assert (await alice.answer(update, results.Done)).generation == 2
    await alice.transport("send")
    await alice.connect("send")
    await alice.produce("mic", "send")
    assert [it.generation for it in fleet.appended(events.ProducerOpened)] == [2]
    await fleet.equals_the_log()


async def test_a_leave_that_was_sent_before_the_peer_had_its_place_is_done(fleet: Fleet) -> None:
    alice, bus = await placed_again(fleet)
    leave = await alice.send(intents.Leave())
    bus.released.set()

    assert (await alice.answer(leave, results.Done)).generation == 2
    await fleet.wait_appended(events.PeerLeft)
    await fleet.equals_the_log()


async def test_what_waits_behind_the_first_join_is_done_at_the_second_choice(fleet: Fleet) -> None:
    bus = SlowToReportPlaces(fleet.broker)
    await fleet.start("s1", workers=2, bus=bus)
    _, second = fleet.places("s1")
    alice = Client(fleet, "lobby", "alice")
    join = await alice.send(intents.Join())
    join_seq = len(fleet.broker.entries)
    await fleet.place("lobby", "alice", GONE, join=join.id, join_seq=join_seq)
    create = await alice.send(intents.CreateTransport(transport="send"))
    await fleet.place("lobby", "alice", second, generation=2, cause="worker-died", join=join.id, join_seq=join_seq)
    connect = await alice.send(CONNECT)
    await report_place(fleet, bus)

    assert (await alice.answer(create, results.TransportResult)).generation == 2
    assert (await alice.answer(connect, results.Done)).generation == 2


async def test_an_intent_is_done_at_the_place_that_it_names_and_at_no_later_one(fleet: Fleet) -> None:
    alice, bus = await placed_again(fleet)
    await report_place(fleet, bus)
    await alice.transport("send")

    for intent in (CONNECT, intents.Leave()):
        late = await alice.send(intent, generation="1")
        with pytest.raises(errors.StaleGeneration) as refused:
            await alice.answer(late, results.Done)
        assert refused.value.details["now"] == 2
    with pytest.raises(errors.BadInput):
        await alice.answer(await alice.send(CONNECT, generation="two"), results.Done)
    assert (await alice.answer(await alice.send(CONNECT, generation="2"), results.Done)).generation == 2
    assert not fleet.appended(events.PeerLeft)
