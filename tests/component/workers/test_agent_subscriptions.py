"""Subscriptions on real workers: consumers come and go with producers, are told in batches, and outlast a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mafalda import errors
from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import QuerySubscription, SubscriptionSnapshot
from mafalda.contract.messages.subscriptions import ProducerSelector
from mafalda.media.rtp import ConsumerLayers, RtpCapabilities
from mafalda.mediasoup import Consumer
from mafalda.mediasoup.ortc import generate_router_rtp_capabilities
from mafalda.workers.config import default_media_codecs
from tests.component.workers.agent_world import WHY, Client, Fleet

CAPABILITIES = generate_router_rtp_capabilities(default_media_codecs())


async def joined(fleet: Fleet, peer: str, place: Place) -> Client:
    """A peer with a transport to send, and one to receive whose capabilities are known."""
    client = await fleet.join("lobby", peer, place)
    await client.transport("send", direction="send", enable_sctp=True)
    await client.transport("receive", direction="receive", enable_sctp=True, rtp_capabilities=CAPABILITIES)
    return client


def told(fleet: Fleet, peer: str) -> list[events.ConsumersOpened]:
    """The batches that a peer was told, in order."""
    subject = subjects.peer_event("lobby", peer, events.ConsumersOpened.action)
    return [
        message.data
        for delivery, message in fleet.entries()
        if delivery.subject == subject and isinstance(message.data, events.ConsumersOpened)
    ]


def held(fleet: Fleet, peer: str) -> set[str]:
    """The producers that a peer consumes, by the log."""
    return {it.producer for it in fleet.state().rooms["lobby"].peers[peer].consumers.values()}


def holds(fleet: Fleet, peer: str, *producers: str) -> Callable[[], bool]:
    return lambda: held(fleet, peer) == set(producers)


async def test_one_wish_receives_what_is_there_and_what_comes(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice, bob = await joined(fleet, "alice", place), await joined(fleet, "bob", place)
    await alice.produce("mic", "send")
    await alice.produce("cam", "send", kind="video")
    await alice.produce_data("chat", "send")
    await bob.produce("bob-mic", "send")

    await bob.ask(
        intents.Subscribe(
            subscription="all", paused=True, preferred_layers=ConsumerLayers(spatial_layer=1, temporal_layer=0)
        ),
        results.SubscribeResult,
    )

    await fleet.until(holds(fleet, "bob", "mic", "cam", "chat"), "everything of others is received")
    (batch,) = told(fleet, "bob")
    formats = {it.format: it for it in batch.formats}
    by_producer = {it.producer: it for it in batch.consumers}
    assert (batch.subscription, batch.transport, batch.generation, batch.failed) == ("all", "receive", 1, [])
    assert {name: it.kind for name, it in by_producer.items()} == {"mic": "audio", "cam": "video", "chat": "data"}
    assert by_producer["cam"].paused
    assert by_producer["chat"].sctp_stream_parameters is not None
    agents = fleet.agents["s1"].sessions.by_key["lobby", "bob"].objects.consumers
    for name in ("mic", "cam"):
        real = agents[by_producer[name].consumer].consumer
        assert by_producer[name].rtp_parameters(formats) == real.rtp_parameters  # type: ignore[union-attr]

    snapshot = await bob.query(QuerySubscription(subscription="all"), SubscriptionSnapshot)
    assert sorted(snapshot.consumers, key=str) == sorted(batch.consumers, key=str)
    assert (snapshot.transport, snapshot.formats) == ("receive", batch.formats)

    await alice.transport("send-2", direction="send")  # the test's producers have the same SSRC
    await alice.produce("mic-2", "send-2")
    await fleet.until(holds(fleet, "bob", "mic", "cam", "chat", "mic-2"), "a new one is received")
    assert told(fleet, "bob")[1].formats == [], "formats are told once"
    await alice.ask(intents.CloseProducer(producer="cam"), results.Done)
    await fleet.until(holds(fleet, "bob", "mic", "chat", "mic-2"), "a closed one is not received")
    assert not fleet.appended(events.ConsumerClosed), "a consumer that ends with its producer needs no entry"
    await fleet.equals_the_log()


async def test_a_subscription_selects_changes_and_ends(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice, bob, carl = [await joined(fleet, peer, place) for peer in ("alice", "bob", "carl")]
    for client in (alice, carl):
        await client.produce(f"{client.peer}-mic", "send")
        await client.produce(f"{client.peer}-cam", "send", kind="video")

    audio = intents.Subscribe(subscription="some", select=[ProducerSelector(kind="audio")])
    await bob.ask(audio, results.SubscribeResult)
    await fleet.until(holds(fleet, "bob", "alice-mic", "carl-mic"), "audio alone")
    consumer = next(it.consumer for it in told(fleet, "bob")[0].consumers if it.producer == "carl-mic")
    with pytest.raises(errors.Refused, match="change the subscription"):
        await bob.ask(intents.CloseConsumer(consumer=consumer), results.Done)

    change = intents.ChangeSubscription(
        subscription="some", add=[ProducerSelector(producer="alice-cam")], remove=[ProducerSelector(peer="carl")]
    )
    changed = await bob.ask(change, results.SubscribeResult)
    assert len(changed.select) == 3
    await fleet.until(holds(fleet, "bob", "alice-mic", "alice-cam"), "one more, and nothing of Carl")
    (closed,) = fleet.appended(events.ConsumersClosed)
    assert closed.consumers == [consumer]
    await fleet.equals_the_log()

    await bob.ask(intents.Unsubscribe(subscription="some"), results.Done)
    assert held(fleet, "bob") == set()
    with pytest.raises(errors.NotFound):
        await bob.ask(intents.Unsubscribe(subscription="some"), results.Done)
    await fleet.equals_the_log()


async def test_all_subscriptions_of_a_peer_have_a_limit_together(fleet: Fleet) -> None:
    """A command that places the peer again has to hold them all."""
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    bob = await fleet.join("lobby", "bob", place)
    half = [ProducerSelector(producer=f"p{number}") for number in range(512)]
    for number in (1, 2):
        ask = intents.Subscribe(subscription=f"s{number}", select=half[number - 1 :])
        await bob.ask(ask, results.SubscribeResult)
    with pytest.raises(errors.BadInput, match="too many selectors"):
        await bob.ask(intents.Subscribe(subscription="s3"), results.SubscribeResult)
    more = intents.ChangeSubscription(subscription="s2", add=[ProducerSelector(producer="x")])
    with pytest.raises(errors.BadInput, match="too many selectors"):
        await bob.ask(more, results.SubscribeResult)
    await bob.ask(intents.Subscribe(subscription="s2", select=half[1:]), results.SubscribeResult)


async def test_a_subscription_before_its_transport_waits_for_it(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await joined(fleet, "alice", place)
    await alice.produce("mic", "send")
    bob = await fleet.join("lobby", "bob", place)
    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    assert held(fleet, "bob") == set()

    await bob.transport("receive", direction="receive", rtp_capabilities=CAPABILITIES)
    await fleet.until(holds(fleet, "bob", "mic"), "received on the new transport")
    await bob.ask(intents.CloseTransport(transport="receive"), results.Done)
    assert held(fleet, "bob") == set()
    await bob.transport("again", direction="both", rtp_capabilities=CAPABILITIES)
    await fleet.until(holds(fleet, "bob", "mic"), "received on the next one")
    await fleet.equals_the_log()


async def test_what_cannot_be_consumed_is_told(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await joined(fleet, "alice", place)
    await alice.produce("mic", "send")
    await alice.produce("cam", "send", kind="video")
    bob = await fleet.join("lobby", "bob", place)
    await bob.transport("receive", direction="receive")
    audio_only = RtpCapabilities(codecs=tuple(codec for codec in CAPABILITIES.codecs if codec.kind == "audio"))

    await bob.ask(intents.Subscribe(subscription="all", rtp_capabilities=audio_only), results.SubscribeResult)

    await fleet.until(holds(fleet, "bob", "mic"), "audio is received")
    (failure,) = [it for batch in told(fleet, "bob") for it in batch.failed]
    assert (failure.producer, failure.error.code) == ("cam", "cannot-consume")
    await bob.ask(
        intents.Consume(consumer="own", transport="receive", producer="mic", rtp_capabilities=RtpCapabilities()),
        results.ConsumeResult,
    )
    await fleet.equals_the_log()


async def test_what_fails_at_the_worker_is_told_and_tried_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice, bob = await joined(fleet, "alice", place), await joined(fleet, "bob", place)
    await alice.produce("mic", "send")
    await alice.produce("cam", "send", kind="video")
    transport = fleet.agents["s1"].sessions.by_key["lobby", "bob"].objects.webrtc_transport("receive")
    consume, failures = transport.consume, [errors.WorkerRequestFailed("refused"), errors.DeadlineExceeded("late")]

    async def flaky(**given: Any) -> Consumer:
        if given["producer_id"] == "mic" and failures:
            raise failures.pop(0)
        return await consume(**given)

    monkeypatch.setattr(transport, "consume", flaky)
    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)

    await fleet.until(holds(fleet, "bob", "mic", "cam"), "it is received in the end")
    first, *later = told(fleet, "bob")
    assert [it.producer for it in first.consumers] == ["cam"], "the others do not depend on it"
    assert [(it.producer, it.error.code) for it in first.failed] == [("mic", "worker-request-failed")]
    assert [it for batch in later for it in batch.failed] == [], "told once"
    await fleet.equals_the_log()


async def test_capabilities_learnt_in_any_way_serve_subscriptions(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await joined(fleet, "alice", place)
    await alice.produce("mic", "send")
    await alice.produce("cam", "send", kind="video")
    bob = await fleet.join("lobby", "bob", place)
    await bob.transport("receive", direction="receive")
    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    audio_only = RtpCapabilities(codecs=tuple(codec for codec in CAPABILITIES.codecs if codec.kind == "audio"))
    own = intents.Consume(consumer="own", transport="receive", producer="mic", rtp_capabilities=audio_only)
    await bob.ask(own, results.ConsumeResult)
    told_of = [it.producer for it in (await fleet.wait_appended(events.ConsumersOpened)).consumers]
    assert told_of == ["mic"], "a consume has said what the client can receive"

    again = intents.Subscribe(subscription="all", rtp_capabilities=CAPABILITIES)
    await bob.ask(again, results.SubscribeResult)
    await fleet.until(holds(fleet, "bob", "mic", "cam"), "they hold for the transport on which it receives")
    with pytest.raises(errors.NotFound):
        await bob.ask(own.model_copy(update={"consumer": "x", "transport": "none"}), results.ConsumeResult)
    await fleet.equals_the_log()


async def test_a_consumer_that_begins_paused_is_known_to_be(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice, bob = await joined(fleet, "alice", place), await joined(fleet, "bob", place)
    await alice.produce("mic", "send")
    await bob.consume("ear", "mic", "receive", paused=True)
    kept = fleet.agents["s1"].sessions.by_key["lobby", "bob"].objects.consumers["ear"]
    assert kept.is_paused
    await bob.ask(intents.ResumeConsumer(consumer="ear"), results.Done)
    assert not kept.is_paused


async def test_relays_are_requested_together_and_their_consumers_told_together(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    alice = await joined(fleet, "alice", there)
    for number in range(5):  # the test's producers have the same SSRC
        await alice.transport(f"send-{number}", direction="send")
        await alice.produce(f"mic-{number}", f"send-{number}")
    bob = await joined(fleet, "bob", here)

    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    requested = await fleet.wait_appended(events.RelaysRequested)
    names = [f"mic-{number}" for number in range(5)]
    assert (requested.worker, sorted(requested.producers)) == (here.worker, names)
    await open_relays(fleet, requested, there)

    await fleet.until(holds(fleet, "bob", *names), "all are received")
    assert all(it.relayed for batch in told(fleet, "bob") for it in batch.consumers)
    assert len(fleet.appended(commands.OpenRelays)) == 1
    await fleet.equals_the_log()


async def open_relays(fleet: Fleet, requested: events.RelaysRequested, source: Place) -> None:
    """What an allocator does with a request."""
    order = commands.OpenRelays(
        room=requested.room,
        target=Place(server=requested.server, worker=requested.worker),
        relays=[commands.RelayOrder(producer=it, source=source, generation=1) for it in requested.producers],
        explanation=WHY,
    )
    await fleet.append(order, subjects.command(requested.room, requested.server, order.action))


async def test_a_relay_that_does_not_open_is_requested_again(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    alice = await joined(fleet, "alice", there)
    await alice.produce("mic", "send")
    bob = await joined(fleet, "bob", here)
    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)

    await fleet.until(lambda: len(fleet.appended(events.RelaysRequested)) == 2, "a second request")
    await open_relays(fleet, fleet.appended(events.RelaysRequested)[1], there)
    await fleet.until(holds(fleet, "bob", "mic"), "it is received")
    await fleet.equals_the_log()


async def test_a_subscription_goes_on_at_the_next_place(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    here, there = fleet.places("s1")
    alice, bob = await joined(fleet, "alice", there), await joined(fleet, "bob", here)
    await alice.produce("mic", "send")
    await bob.ask(intents.Subscribe(subscription="all"), results.SubscribeResult)
    await open_relays(fleet, await fleet.wait_appended(events.RelaysRequested), there)
    await fleet.until(holds(fleet, "bob", "mic"), "received at the first place")

    state = fleet.state().rooms["lobby"].peers["bob"]
    decided_seq = fleet.state().seq
    more = intents.ChangeSubscription(subscription="all", remove=[ProducerSelector(kind="video")])
    await bob.ask(more, results.SubscribeResult)
    await fleet.place(
        "lobby",
        "bob",
        there,
        generation=2,
        cause="worker-died",
        join=state.join,
        subscriptions=list(state.subscriptions.values()),
        subscriptions_seq=decided_seq,
    )
    await fleet.wait_appended(events.PeerMoved)
    await bob.transport("receive-2", direction="receive", rtp_capabilities=CAPABILITIES)

    await fleet.until(holds(fleet, "bob", "mic"), "received at the next place, without another wish")
    assert told(fleet, "bob")[-1].generation == 2
    (wish,) = fleet.state().rooms["lobby"].peers["bob"].subscriptions.values()
    assert wish.select == [ProducerSelector(), ProducerSelector(kind="video", exclude=True)]
    book = fleet.agents["s1"].sessions.by_key["lobby", "bob"].book
    assert list(book.wishes.values()) == [wish], "what was answered after the decision counts too"
    await fleet.equals_the_log()
