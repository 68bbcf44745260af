"""Peers of one worker: joining, transports, producing, consuming, leaving; and every kind of rejection."""

from __future__ import annotations

import pytest

from mafalda import errors
from mafalda.bus.compose import compose
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.queries import QueryRoom, QueryStats, QueryTransport, RoomSnapshot, Stats
from mafalda.media.rtp import RtpCapabilities, RtpCodecParameters, RtpParameters
from mafalda.testing.media import DTLS, OPUS_PARAMETERS
from tests.component.workers.agent_world import Client, Fleet


async def pair(fleet: Fleet) -> tuple[Client, Client]:
    """Alice, who produces "mic", and Bob, both with transports, on one worker."""
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    bob = await fleet.join("lobby", "bob", place)
    await alice.transport("send", enable_sctp=True)
    await bob.transport("receive", enable_sctp=True)
    await alice.produce("mic", "send")
    return alice, bob


async def test_a_peer_is_placed_produces_and_is_consumed(fleet: Fleet) -> None:
    _, bob = await pair(fleet)

    received = await bob.consume("bob-mic", "mic", "receive")

    assert (received.media_kind, received.type, received.relayed, received.paused) == ("audio", "simple", False, True)
    assert [it.peer for it in fleet.appended(events.PeerJoined)] == ["alice", "bob"]
    (opened,) = fleet.appended(events.ProducerOpened)
    assert (opened.peer, opened.producer, opened.generation) == ("alice", "mic", 1)
    await fleet.equals_the_log()


async def test_every_intent_about_a_consumer_is_done(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await alice.produce("cam", "send", kind="video")
    await bob.consume("bob-cam", "cam", "receive")

    for intent in (
        intents.ResumeConsumer(consumer="bob-cam"),
        intents.SetPreferredLayers(consumer="bob-cam", spatial_layer=1, temporal_layer=0),
        intents.SetPriority(consumer="bob-cam", priority=7),
        intents.RequestKeyFrame(consumer="bob-cam"),
        intents.PauseConsumer(consumer="bob-cam"),
        intents.CloseConsumer(consumer="bob-cam"),
    ):
        done = await bob.ask(intent, results.Done)
        assert (done.intent, done.target) == (intent.action, "bob-cam")
    await fleet.equals_the_log()


async def test_data_goes_from_peer_to_peer(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await alice.produce_data("chat", "send")

    received = await bob.ask(
        intents.ConsumeData(data_consumer="bob-chat", transport="receive", data_producer="chat"),
        results.ConsumeDataResult,
    )

    assert (received.label, received.protocol, received.relayed) == ("chat", "json", False)
    await fleet.equals_the_log()
    await bob.ask(intents.CloseDataConsumer(data_consumer="bob-chat"), results.Done)
    await alice.ask(intents.CloseDataProducer(data_producer="chat"), results.Done)
    await fleet.wait_appended(events.DataProducerClosed)
    await fleet.equals_the_log()


async def test_pausing_a_producer_appends_one_event(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)

    for _again in range(2):
        await alice.ask(intents.PauseProducer(producer="mic"), results.Done)
    await alice.ask(intents.ResumeProducer(producer="mic"), results.Done)

    assert len(fleet.appended(events.ProducerPaused)) == len(fleet.appended(events.ProducerResumed)) == 1


async def test_closing_a_transport_closes_its_producers_and_reports_it_to_consumers(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await alice.produce_data("chat", "send")
    await bob.consume("bob-mic", "mic", "receive")

    await alice.ask(intents.CloseTransport(transport="send"), results.Done)

    assert (await fleet.wait_appended(events.ProducerClosed)).reason == "transport-closed"
    assert (await fleet.wait_appended(events.DataProducerClosed)).reason == "transport-closed"
    closed = await fleet.wait_appended(events.ConsumerClosed)
    assert (closed.consumer, closed.reason) == ("bob-mic", "producer-closed")
    await fleet.equals_the_log()


async def test_leaving_closes_everything_and_may_be_undone_by_joining(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await bob.consume("bob-mic", "mic", "receive")

    done = await alice.ask(intents.Leave(), results.Done)

    assert done.intent == "leave"
    assert (await fleet.wait_appended(events.PeerLeft)).reason == "left"
    await fleet.wait_appended(events.ConsumerClosed)
    await fleet.equals_the_log()
    message = await alice.send(intents.Join())
    await fleet.place("lobby", "alice", fleet.places("s1")[0], generation=2, join=message.id)
    await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)
    await alice.transport("send")
    await fleet.equals_the_log()


async def test_a_leave_that_is_stored_again_does_not_end_the_next_membership(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    leave = await alice.send(intents.Leave())
    await alice.answer(leave, results.Done)
    message = await alice.send(intents.Join())
    await fleet.place("lobby", "alice", fleet.places("s1")[0], generation=2, join=message.id)
    await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)

    fleet.broker.forget_ids()  # as after the duplicate window
    await alice.send(intents.Leave(), id=leave.id)

    refused = await fleet.wait_appended(results.Rejected)
    assert refused.error.code == "stale-generation"
    await alice.transport("send")
    assert len(fleet.appended(events.PeerLeft)) == 1
    await alice.ask(intents.Leave(), results.Done)
    assert len(fleet.appended(events.PeerLeft)) == 2


async def test_routers_close_with_the_last_peer(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    agent = fleet.agents["s1"]

    await alice.ask(intents.Leave(), results.Done)
    await bob.ask(intents.Leave(), results.Done)

    await fleet.until(lambda: not agent.routers.all() and not agent.machine.state.rooms, "the room is forgotten")
    (live,) = agent.supervisor.alive.values()
    dump = await live.worker.dump()
    assert dump["routerIds"] == []


async def test_a_room_is_shown_as_of_a_sequence(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await alice.produce_data("chat", "send")

    async def look() -> RoomSnapshot:
        return await bob.query(QueryRoom(), RoomSnapshot)

    opened = fleet.broker.last_seq_of(subjects.room_event("lobby", "data-producer-opened"))
    seen = await look()
    while seen.seq < opened:
        seen = await look()
    assert {it.peer: it.app_data for it in seen.peers} == {"alice": {"name": "alice"}, "bob": {"name": "bob"}}
    assert [(it.producer, it.media_kind, it.paused) for it in seen.producers] == [("mic", "audio", False)]
    assert [(it.data_producer, it.label) for it in seen.data_producers] == [("chat", "chat")]


async def test_stats_and_transports_can_be_asked_for(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)
    await bob.consume("bob-mic", "mic", "receive")

    again = await alice.query(QueryTransport(transport="send"), results.TransportResult)
    stats = await alice.query(QueryStats(target="transport", id="send"), Stats)
    received = await bob.query(QueryStats(target="consumer", id="bob-mic"), Stats)

    assert again.ice_parameters is not None
    assert stats.stats[0]["type"] == "webrtc-transport"
    assert received.stats[0]["type"] == "outbound-rtp"
    with pytest.raises(errors.NotFound):
        await alice.query(QueryStats(target="producer", id="nothing"), Stats)


async def test_ice_restarts_with_new_credentials(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    before = await alice.query(QueryTransport(transport="send"), results.TransportResult)
    async with fleet.bus.inbox() as inbox:
        message = await alice.send(intents.RestartIce(transport="send"), inbox=inbox)
        stored = await alice.answer(message, results.TransportResult)
        await inbox.next(5)

    after = await alice.query(QueryTransport(transport="send"), results.TransportResult)
    assert stored.ice_parameters is None
    assert before.ice_parameters
    assert after.ice_parameters
    assert before.ice_parameters.password != after.ice_parameters.password


WRONG: list[tuple[intents.Intent, type[errors.MafaldaError]]] = [
    (intents.ConnectTransport(transport="none", dtls_parameters=DTLS), errors.NotFound),
    (intents.CreateTransport(transport="send"), errors.AlreadyExists),
    (
        intents.Produce(producer="mic", transport="send", media_kind="audio", rtp_parameters=OPUS_PARAMETERS),
        errors.AlreadyExists,
    ),
    (
        intents.Produce(producer="p2", transport="none", media_kind="audio", rtp_parameters=OPUS_PARAMETERS),
        errors.NotFound,
    ),
    (
        intents.Produce(
            producer="p2",
            transport="send",
            media_kind="audio",
            rtp_parameters=RtpParameters(
                codecs=(RtpCodecParameters(mime_type="audio/unheard-of", payload_type=99, clock_rate=8000),)
            ),
        ),
        errors.UnsupportedError,
    ),
    (
        intents.Consume(
            consumer="c1", transport="send", producer="nobody", rtp_capabilities=RtpCapabilities(codecs=())
        ),
        errors.NotFound,
    ),
    (
        intents.Consume(consumer="c1", transport="send", producer="mic", rtp_capabilities=RtpCapabilities(codecs=())),
        errors.CannotConsume,
    ),
    (intents.ConsumeData(data_consumer="d1", transport="send", data_producer="mic"), errors.NotFound),
    (intents.PauseProducer(producer="nobody"), errors.NotFound),
    (intents.CloseDataProducer(data_producer="nobody"), errors.NotFound),
    (intents.ResumeConsumer(consumer="nobody"), errors.NotFound),
    (intents.RestartIce(transport="none"), errors.NotFound),
    (intents.CloseTransport(transport="none"), errors.NotFound),
]


async def test_each_wrong_intent_is_rejected_with_its_own_code_and_disturbs_nobody(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)

    for intent, error in WRONG:
        with pytest.raises(error):
            await alice.ask(intent, results.Result)

    await bob.consume("bob-mic", "mic", "receive")
    await fleet.equals_the_log()


async def test_a_producer_id_is_taken_in_the_whole_room(fleet: Fleet) -> None:
    _, bob = await pair(fleet)

    with pytest.raises(errors.AlreadyExists):
        await bob.produce("mic", "receive")


async def test_transport_and_consumer_ids_are_each_peers_own(fleet: Fleet) -> None:
    alice, bob = await pair(fleet)

    await bob.transport("send")
    await bob.produce("bob-mic", "send")
    await alice.consume("same", "bob-mic", "send")
    await bob.consume("same", "mic", "receive")

    await fleet.equals_the_log()


async def test_an_intent_that_is_published_twice_is_done_once(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    await alice.transport("send-2")
    sent = intents.Produce(producer="cam", transport="send-2", media_kind="audio", rtp_parameters=OPUS_PARAMETERS)
    message = await alice.send(sent)
    await alice.answer(message, results.ProduceResult)

    # The same message, stored once more: as after the log's own deduplication window.
    fleet.broker.store(message.subject or "", fleet.broker.entries[-1].data, {})
    raw = next(it.data for it in fleet.broker.entries if b'"id":"%s"' % message.id.encode() in it.data)
    fleet.broker.store(message.subject or "", raw, {})
    await alice.ask(intents.PauseProducer(producer="cam"), results.Done)  # comes after it

    assert len([it for it in fleet.appended(events.ProducerOpened) if it.producer == "cam"]) == 1
    assert not fleet.appended(results.Rejected)


async def test_a_reply_subject_must_be_an_inbox(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    intent = intents.CreateTransport(transport="other")
    subject = subjects.intent("lobby", "alice", intent.action)
    message = compose(intent, subject=subject, source="/test")

    await fleet.bus.append(subject, message, headers={"Mafalda-Reply-To": "mafalda.room.lobby.event.peer-left"})

    with pytest.raises(errors.IllegalReplySubject):
        await alice.answer(message, results.TransportResult)


async def test_poison_blocks_nobody(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    subject = subjects.intent("lobby", "alice", "produce")
    lie = compose(events.PeerLeft(peer="bob", generation=1), subject=subject, source="/test")
    for data in (b"", b"{", b"\xff\xfe", b'{"type":"mafalda.intent.unheard-of.v1"}', b"[" * 5000):
        fleet.broker.store(subject, data, {})
    await fleet.bus.append(subject, lie)

    await alice.ask(intents.PauseProducer(producer="mic"), results.Done)

    assert fleet.agents["s1"].log_reader.unreadable == 6
    await fleet.equals_the_log()


async def test_intents_right_behind_the_command_are_not_missed(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    client = Client(fleet, "lobby", "hasty")
    join = await client.send(intents.Join())
    await fleet.place("lobby", "hasty", place, join=join.id)

    sent = await client.send(intents.CreateTransport(transport="t"))

    await client.answer(sent, results.TransportResult)
    await fleet.equals_the_log()


async def test_a_wrong_use_of_a_transport_is_rejected(fleet: Fleet) -> None:
    alice, _ = await pair(fleet)
    await alice.connect("send")

    with pytest.raises(errors.WorkerRequestFailed):
        await alice.connect("send")


async def test_a_silent_peer_is_timed_out(fleet: Fleet) -> None:
    await fleet.start("s1", idle_grace_s=0.1)
    (place,) = fleet.places("s1")
    await fleet.join("lobby", "ghost", place)

    assert (await fleet.wait_appended(events.PeerLeft)).reason == "timed-out"
    await fleet.equals_the_log()


async def test_a_lease_at_which_nothing_is_requested_ends(fleet: Fleet) -> None:
    """Its own time counts, not the longer one of peers who may still be connecting."""
    await fleet.start("s1", idle_grace_s=3600)
    (place,) = fleet.places("s1")
    await fleet.join("lobby", "kept", place)
    await fleet.join("lobby", "ahead", place, lease_s=0.1)

    left = await fleet.wait_appended(events.PeerLeft)
    assert (left.peer, left.reason) == ("ahead", "timed-out")
    await fleet.equals_the_log()
