"""Every intent has a result: in one flight with a join, behind a leave or a dead worker, and when two take one id."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from mafalda import errors
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Appended
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Place
from mafalda.errors import MafaldaError
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.workers.core.stimuli import PeerTaskFailed
from tests.component.workers.agent_world import Client, Fleet


async def outcomes(client: Client, *wanted: intents.Intent) -> list[str]:
    """Send intents at once; the code of each one's error, or ``done``, in their order."""
    found = []
    for message in [await client.send(intent) for intent in wanted]:
        try:
            await client.answer(message, results.Result)
            found.append("done")
        except MafaldaError as error:
            found.append(error.code)
    return found


async def test_what_is_requested_before_the_peer_has_a_place_is_done_in_order_after_its_join(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = Client(fleet, "lobby", "alice")
    join = await alice.send(intents.Join())
    join_seq = await fleet.bus.last_seq()
    sent = [
        await alice.send(intents.CreateTransport(transport="send")),
        await alice.send(alice.produce_intent("mic", "send")),
        await alice.send(intents.PauseProducer(producer="mic")),
    ]
    await fleet.place("lobby", "alice", place, join=join.id, join_seq=join_seq)
    sent.append(await alice.send(intents.ResumeProducer(producer="mic")))

    for message in sent:
        await alice.answer(message, results.Result)
    answered = [message.data for _, message in fleet.entries() if isinstance(message.data, results.Result)]
    kinds = [results.JoinResult, results.TransportResult, results.ProduceResult, results.Done, results.Done]
    assert [type(result) for result in answered] == kinds
    await fleet.equals_the_log()


async def test_a_second_place_does_what_the_first_one_has_not_answered(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = Client(fleet, "lobby", "alice")
    join = await alice.send(intents.Join())
    join_seq = await fleet.bus.last_seq()
    dead = Place(server="gone", worker="gone-0")
    await fleet.place("lobby", "alice", dead, join=join.id, join_seq=join_seq)
    answered = await alice.send(intents.CreateTransport(transport="old"))
    refused = results.Rejected(intent="create-transport", error=ErrorInfo.of(errors.WorkerExited("dead")))
    subject = subjects.result("lobby", "alice", "create-transport")
    await fleet.bus.append(subject, compose(refused, subject=subject, source="/test", cause=answered))
    sent = await alice.send(intents.CreateTransport(transport="send"))
    await fleet.place("lobby", "alice", place, generation=2, cause="worker-died", join=join.id, join_seq=join_seq)

    await alice.answer(sent, results.TransportResult)
    assert [it.transport for it in fleet.appended(results.TransportResult)] == ["send"]


async def test_intents_behind_a_leave_are_rejected(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    await alice.transport("send")
    await alice.produce("mic", "send")

    pause = intents.PauseProducer(producer="mic")
    assert await outcomes(alice, pause, intents.Leave(), pause, pause) == ["done", "done", "not-joined", "not-joined"]


@pytest.mark.parametrize("end", ["kill", "evict"])
async def test_intents_in_the_queue_of_a_session_that_ends_are_rejected(fleet: Fleet, end: str) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    await alice.transport("send")
    session, began, gate = agent.sessions.by_key["lobby", "alice"], asyncio.Event(), asyncio.Event()

    async def busy() -> None:
        began.set()
        await gate.wait()

    session.jobs.add(busy)
    await began.wait()
    waiting = await alice.send(intents.CreateTransport(transport="receive"))
    await fleet.until(lambda: not session.jobs.is_empty, "the intent is in the queue")
    if end == "kill":
        os.kill(agent.supervisor.alive[place.worker].worker.pid, signal.SIGKILL)
        await fleet.wait_appended(events.WorkerDied)
    else:
        error = errors.WorkerRequestFailed("the worker refuses")
        agent.sessions.services.report(PeerTaskFailed("lobby", "alice", 1, error))
        await fleet.wait_appended(events.PeerLeft)
    gate.set()

    with pytest.raises(errors.WorkerExited if end == "kill" else errors.WorkerRequestFailed):
        await alice.answer(waiting, results.TransportResult)


class HeldBus(MemoryBus):
    """Stores no ``ProducerOpened`` before it is released."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, name="held")
        self.released = asyncio.Event()

    async def append(self, subject: str, message: Message, **options: Any) -> Appended:
        if isinstance(message.data, events.ProducerOpened | events.DataProducerOpened):
            await self.released.wait()
        return await super().append(subject, message, **options)


@pytest.mark.parametrize("data", [False, True])
async def test_who_loses_a_producer_id_is_told_alone(fleet: Fleet, data: bool) -> None:
    held = HeldBus(fleet.broker)
    await fleet.start("s1")
    await fleet.start("s2", bus=held)
    (first,), (second,) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("lobby", "alice", first)
    bob = await fleet.join("lobby", "bob", second)
    for peer in (alice, bob):
        await peer.transport("send", enable_sctp=True)

    intent = bob.produce_data_intent("mic", "send") if data else bob.produce_intent("mic", "send")
    lost = await bob.send(intent)
    await fleet.until(lambda: ("lobby", "mic") in fleet.agents["s2"].sessions.services.claimed, "Bob's agent opens it")
    await (alice.produce_data("mic", "send") if data else alice.produce("mic", "send"))
    held.released.set()

    await bob.answer(lost, results.Result)
    closed: events.ProducerClosed | events.DataProducerClosed
    if data:
        closed = await fleet.wait_appended(events.DataProducerClosed)
    else:
        closed = await fleet.wait_appended(events.ProducerClosed)
    assert (closed.peer, closed.error.code if closed.error else None) == ("bob", "already-exists")
    subject = subjects.peer_event("lobby", "bob", closed.action)
    assert [delivery.subject for delivery, message in fleet.entries() if message.data == closed] == [subject]
    assert fleet.state().rooms["lobby"].producers["mic"].peer == "alice"
    await fleet.equals_the_log()
