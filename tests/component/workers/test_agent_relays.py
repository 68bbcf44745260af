"""Relays: producers consumed on workers that are not their own, on one server and across two."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from mafalda import errors
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.payload import Place
from mafalda.mediasoup import Consumer, DataConsumer, PipeTransport, Producer
from tests.component.workers.agent_world import Client, Fleet


@dataclass(slots=True)
class Pair:
    """Alice produces on one worker, Bob is on another."""

    fleet: Fleet
    alice: Client
    bob: Client
    here: Place
    there: Place

    async def consume(
        self, consumer: str, producer: str, *, by: Client | None = None, **given: object
    ) -> results.ConsumeResult:
        """A consume whose relay the allocator orders."""
        by = by or self.bob
        message = await by.send(by.consume_intent(consumer, producer, "receive", **given))
        await self.fleet.relay("lobby", producer, self.here, self.there)
        return await by.answer(message, results.ConsumeResult)

    def relay_target(self, producer: str) -> Producer:
        """The real producer at the target."""
        router = self.fleet.agents[self.there.server].routers.existing("lobby", self.there.worker)
        assert router is not None
        found = router.get_producer(producer)
        assert found is not None
        return found

    def pipe_consumers(self) -> list[Consumer | DataConsumer]:
        """What the source really sends over its pipes."""
        router = self.fleet.agents[self.here.server].routers.existing("lobby", self.here.worker)
        assert router is not None
        pipes = [it for it in router.transports.values() if isinstance(it, PipeTransport)]
        found: list[Consumer | DataConsumer] = []
        for pipe in pipes:
            found += [*pipe.consumers.values(), *pipe.data_consumers.values()]
        return found

    def consumer(self, consumer: str) -> Consumer:
        """Bob's real consumer."""
        found = (
            self.fleet.agents[self.there.server].sessions.by_key["lobby", "bob"].objects.consumers[consumer].consumer
        )
        assert isinstance(found, Consumer)
        return found


@pytest.fixture(params=["one server", "two servers"])
async def pair(request: pytest.FixtureRequest, fleet: Fleet) -> Pair:
    if request.param == "one server":
        await fleet.start("s1", workers=2)
        here, there = fleet.places("s1")
    else:
        await fleet.start("s1")
        await fleet.start("s2")
        (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("lobby", "alice", here)
    bob = await fleet.join("lobby", "bob", there)
    await alice.transport("send", enable_sctp=True)
    await bob.transport("receive", enable_sctp=True)
    await alice.produce("mic", "send")
    return Pair(fleet, alice, bob, here, there)


async def test_a_producer_is_consumed_on_another_worker(pair: Pair) -> None:
    consumed = await pair.consume("bob-mic", "mic")

    assert (consumed.relayed, consumed.type) == (True, "simple")
    assert pair.relay_target("mic").id == "mic"
    (carried,) = pair.pipe_consumers()
    assert isinstance(carried, Consumer)
    assert carried.type == "pipe"
    await pair.fleet.equals_the_log()


async def test_all_simulcast_layers_cross(pair: Pair) -> None:
    await pair.alice.produce("cam", "send", kind="video")

    consumed = await pair.consume("bob-cam", "cam")

    assert (consumed.type, consumed.relayed) == ("simulcast", True)
    (carried,) = [it for it in pair.pipe_consumers() if isinstance(it, Consumer) and it.kind == "video"]
    assert len(carried.rtp_parameters.encodings) == len(pair.relay_target("cam").rtp_parameters.encodings) == 3
    assert pair.relay_target("cam").type == "simulcast"
    across = pair.here.server != pair.there.server
    assert any(codec.mime_type.endswith("rtx") for codec in carried.rtp_parameters.codecs) == across
    await pair.fleet.equals_the_log()


async def test_a_client_is_told_which_of_its_layers_anybody_receives(pair: Pair) -> None:
    fleet = pair.fleet
    seen: list[events.ProducerLayersChanged] = []

    async def told(layer: int | None) -> None:
        """The next event is of this layer."""
        news = await fleet.until(lambda: fleet.appended(events.ProducerLayersChanged)[len(seen) :], f"told {layer}")
        seen.append(news[0])
        assert (seen[-1].producer, seen[-1].spatial_layer) == ("cam", layer)

    await pair.alice.produce("cam", "send", kind="video", report_layers=True)
    await told(None)  # nobody receives it
    await pair.consume("far", "cam", paused=False)
    await told(2)
    carl = await fleet.join("lobby", "carl", pair.here)
    await carl.transport("receive")
    await carl.consume("near", "cam", "receive", paused=False)
    await carl.ask(intents.SetPreferredLayers(consumer="near", spatial_layer=1), results.Done)
    await pair.bob.ask(intents.SetPreferredLayers(consumer="far", spatial_layer=0), results.Done)
    await told(1)  # for the one on the origin's worker
    await carl.ask(intents.CloseConsumer(consumer="near"), results.Done)
    await told(0)  # for the one behind the relay
    await pair.bob.ask(intents.SetPreferredLayers(consumer="far", spatial_layer=2), results.Done)
    await told(2)
    await pair.bob.ask(intents.PauseConsumer(consumer="far"), results.Done)
    await told(None)
    await fleet.equals_the_log()


async def test_data_crosses_and_ends_in_both_directions(pair: Pair) -> None:
    fleet = pair.fleet
    await pair.alice.produce_data("chat", "send")
    sent = intents.ConsumeData(data_consumer="bob-chat", transport="receive", data_producer="chat")
    message = await pair.bob.send(sent)
    await fleet.relay("lobby", "chat", pair.here, pair.there, data=True)
    consumed = await pair.bob.answer(message, results.ConsumeDataResult)
    assert (consumed.relayed, consumed.label, consumed.protocol) == (True, "chat", "json")
    await fleet.equals_the_log()

    await pair.alice.ask(intents.CloseDataProducer(data_producer="chat"), results.Done)

    assert (await fleet.wait_appended(events.DataConsumerClosed)).data_consumer == "bob-chat"
    await fleet.until(lambda: not pair.pipe_consumers(), "the data is not carried any more")
    await fleet.equals_the_log()


async def test_pipes_across_servers_are_encrypted_and_inside_one_are_not(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic")

    for server in pair.fleet.agents.values():
        for end in (*server.target_pipes.transports(), *server.relay_sources.transports()):
            across = pair.here.server != pair.there.server
            assert (end.srtp_parameters is not None) == across
            assert end.rtx == across


async def test_a_second_consumer_uses_the_same_relay(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic")

    again = await pair.bob.consume("bob-mic-2", "mic", "receive")

    assert again.relayed
    assert len(pair.pipe_consumers()) == 1
    assert len(pair.fleet.appended(events.RelayOpened)) == 1


async def test_consumes_at_once_share_the_relay_in_flight(pair: Pair) -> None:
    wishes = [await pair.bob.send(pair.bob.consume_intent(f"c{n}", "mic", "receive")) for n in range(5)]
    for _ in range(3):
        await pair.fleet.relay("lobby", "mic", pair.here, pair.there)

    for sent in wishes:
        assert (await pair.bob.answer(sent, results.ConsumeResult)).relayed
    assert len(pair.pipe_consumers()) == 1
    assert len(pair.fleet.appended(events.RelayOpened)) == 1
    await pair.fleet.equals_the_log()


async def test_a_consume_that_waits_holds_up_nothing(pair: Pair) -> None:
    waiting = await pair.bob.send(pair.bob.consume_intent("bob-mic", "mic", "receive"))

    await pair.bob.transport("another")  # asked later, answered first

    with pytest.raises(errors.AlreadyExists):
        await pair.bob.consume("bob-mic", "mic", "receive")
    await pair.fleet.relay("lobby", "mic", pair.here, pair.there)
    assert (await pair.bob.answer(waiting, results.ConsumeResult)).relayed


async def test_two_producers_share_one_pipe(pair: Pair) -> None:
    await pair.alice.transport("send-2")
    await pair.alice.produce("mic-2", "send-2")

    await asyncio.gather(pair.consume("c1", "mic"), pair.consume("c2", "mic-2"))

    assert len(pair.fleet.agents[pair.there.server].target_pipes.transports()) == 1
    assert len(pair.fleet.agents[pair.here.server].relay_sources.transports()) == 1
    assert len(pair.pipe_consumers()) == 2


async def test_the_origins_pause_reaches_the_relays_consumers(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic", paused=False)
    consumer = pair.consumer("bob-mic")

    await pair.alice.ask(intents.PauseProducer(producer="mic"), results.Done)
    await pair.fleet.until(
        lambda: pair.relay_target("mic").paused and consumer.producer_paused, "the relay target pauses"
    )

    await pair.alice.ask(intents.ResumeProducer(producer="mic"), results.Done)
    await pair.fleet.until(lambda: not pair.relay_target("mic").paused and not consumer.producer_paused, "it resumes")


async def test_a_relay_target_of_a_paused_producer_is_paused(pair: Pair) -> None:
    await pair.alice.ask(intents.PauseProducer(producer="mic"), results.Done)

    consumed = await pair.consume("bob-mic", "mic", paused=False)

    assert consumed.producer_paused


async def test_the_source_sends_only_while_somebody_takes_it(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic")  # paused, as consumers start
    (carried,) = pair.pipe_consumers()
    await pair.fleet.until(lambda: carried.paused, "the source pauses")

    await pair.bob.ask(intents.ResumeConsumer(consumer="bob-mic"), results.Done)
    await pair.fleet.until(lambda: not carried.paused, "the source sends")

    await pair.bob.ask(intents.PauseConsumer(consumer="bob-mic"), results.Done)
    await pair.fleet.until(lambda: carried.paused, "the source pauses again")


async def test_the_origins_close_closes_relay_target_and_consumers(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic")

    await pair.alice.ask(intents.CloseProducer(producer="mic"), results.Done)

    closed = await pair.fleet.wait_appended(events.ConsumerClosed)
    assert (closed.consumer, closed.reason) == ("bob-mic", "producer-closed")
    await pair.fleet.until(lambda: not pair.pipe_consumers(), "nothing is carried")
    await pair.fleet.equals_the_log()


async def test_an_unused_relay_is_closed_and_can_be_opened_again(pair: Pair) -> None:
    await pair.consume("bob-mic", "mic")

    await pair.bob.ask(intents.CloseConsumer(consumer="bob-mic"), results.Done)

    assert (await pair.fleet.wait_appended(events.RelayClosed)).reason == "unused"
    await pair.fleet.until(lambda: not pair.pipe_consumers(), "nothing is carried")
    source = pair.fleet.agents[pair.here.server]
    await pair.fleet.until(lambda: not source.relay_sources.transports(), "the pipe is closed")
    await pair.fleet.equals_the_log()
    assert (await pair.consume("bob-mic", "mic")).relayed
    await pair.fleet.equals_the_log()


async def test_a_relay_of_what_is_not_there_fails_and_leaves_nothing(pair: Pair) -> None:
    await pair.fleet.relay("lobby", "nothing", pair.here, pair.there)

    failed = await pair.fleet.wait_appended(events.RelayFailed)

    assert failed.error.code == "not-found"
    await pair.fleet.equals_the_log()


async def test_a_stale_generation_is_refused(pair: Pair) -> None:
    waiting = await pair.bob.send(pair.bob.consume_intent("bob-mic", "mic", "receive"))
    await pair.fleet.relay("lobby", "mic", pair.here, pair.there, generation=7)

    with pytest.raises(errors.RelayUnavailable):
        await pair.bob.answer(waiting, results.ConsumeResult)
    assert (await pair.fleet.wait_appended(events.RelayFailed)).error.code == "stale-generation"
    assert (await pair.consume("bob-mic", "mic")).relayed


async def test_a_consume_is_rejected_when_its_producer_closes_while_it_waits(pair: Pair) -> None:
    waiting = await pair.bob.send(pair.bob.consume_intent("bob-mic", "mic", "receive"))
    await pair.bob.transport("t2")  # the consume before it waits now

    await pair.alice.ask(intents.CloseProducer(producer="mic"), results.Done)

    with pytest.raises(errors.NotFound):
        await pair.bob.answer(waiting, results.ConsumeResult)


async def test_a_consume_whose_relay_is_not_ordered_is_rejected_in_time(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2, consume_timeout_s=0.2)
    here, there = fleet.places("s1")
    alice, bob = await fleet.join("lobby", "alice", here), await fleet.join("lobby", "bob", there)
    await alice.transport("send")
    await bob.transport("receive")
    await alice.produce("mic", "send")

    with pytest.raises(errors.DeadlineExceeded):
        await bob.consume("bob-mic", "mic", "receive")


async def test_a_tree_of_relays(fleet: Fleet) -> None:
    """From one server to a worker of another, and from there to its neighbour."""
    await fleet.start("s1")
    await fleet.start("s2", workers=2)
    (here,), (there, beyond) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("lobby", "alice", here)
    bob, carol = await fleet.join("lobby", "bob", there), await fleet.join("lobby", "carol", beyond)
    await alice.transport("send")
    await alice.produce("mic", "send")
    for peer in (bob, carol):
        await peer.transport("receive")
    first = await bob.send(bob.consume_intent("bob-mic", "mic", "receive", paused=False))
    await fleet.relay("lobby", "mic", here, there)
    await bob.answer(first, results.ConsumeResult)
    second = await carol.send(carol.consume_intent("carol-mic", "mic", "receive", paused=False))
    await fleet.relay("lobby", "mic", there, beyond)
    assert (await carol.answer(second, results.ConsumeResult)).relayed
    await fleet.equals_the_log()

    # What the leaf needs keeps the inner relay alive, though it has no other user.
    await bob.ask(intents.CloseConsumer(consumer="bob-mic"), results.Done)
    await alice.ask(intents.PauseProducer(producer="mic"), results.Done)
    leaf = fleet.agents["s2"].sessions.by_key["lobby", "carol"].objects.consumers["carol-mic"].consumer
    assert isinstance(leaf, Consumer)
    await fleet.until(lambda: leaf.producer_paused, "the pause crosses both hops")
    assert not fleet.appended(events.RelayClosed)

    # Nobody at the leaf: both hops end, the far one first.
    await carol.ask(intents.CloseConsumer(consumer="carol-mic"), results.Done)
    await fleet.until(lambda: len(fleet.appended(events.RelayClosed)) == 2, "both relays close")
    assert [it.target for it in fleet.appended(events.RelayClosed)] == [beyond, there]
    await fleet.equals_the_log()
