"""Peers of an application that speaks the worker's channel: objects, reads, and calls that must not be stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.queries import QueryChannel
from mafalda.errors import MalformedMessage, NotFound, NotJoined
from mafalda.mediasoup import SctpLimits
from mafalda.mediasoup.codec.channel_json import to_json
from mafalda.mediasoup.transports.bodies import produce_data_body
from mafalda.mediasoup.transports.listen import listen_info_body
from mafalda.testing.media import SRTP
from tests.component.workers.agent_world import DEADLINE_S, Client, Fleet

BASE = SctpLimits().base_options(enable_sctp=False, is_data_channel=False)
PLAIN = {
    "base": BASE,
    "listenInfo": listen_info_body({"protocol": "udp", "ip": "127.0.0.1"}),
    "rtcpMux": True,
    "comedia": False,
    "enableSrtp": True,
    "srtpCryptoSuite": SRTP.crypto_suite,
}
DIRECT = {"base": {"direct": True, "maxSendMessageSize": 262144, "maxReceiveMessageSize": 262144}}


def call(method: str, handler: str = "", body: dict[str, Any] | None = None) -> ChannelCall:
    """A call, as the drop-in puts it."""
    return ChannelCall(method=method, handler=handler, body=to_json(body) if body else None)


async def request(client: Client, intent: intents.Intent, result: type[Any] = results.ChannelAnswer) -> Any:
    """The result of an intent that carries a call, and the worker's own answer to it."""
    async with client.fleet.bus.inbox() as inbox:
        message = await client.send(intent, inbox=inbox)
        await client.answer(message, result)
        answer = decode((await inbox.next(DEADLINE_S)).data).data
    assert isinstance(answer, results.ChannelAnswer)
    return answer.body or {}


async def query(client: Client, method: str, handler: str = "", body: dict[str, Any] | None = None) -> Any:
    """What a query of the channel is answered."""
    answer = await client.query(QueryChannel(call=call(method, handler, body)), results.ChannelAnswer)
    return answer.body or {}


async def application(fleet: Fleet, *, method: str = "ROUTER_CREATE_PLAINTRANSPORT", options: Any = PLAIN) -> Client:
    """A peer with one transport, which was made with the application's own options."""
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    peer = await fleet.join("lobby", "app", place)
    body = {"transportId": "plain", "options": options}
    await request(peer, intents.CreateTransport(transport="plain", channel=call(method, "lobby", body)))
    return peer


def connect_body(port: int = 5004) -> dict[str, Any]:
    return {"ip": "127.0.0.1", "port": port, "srtpParameters": SRTP.to_json_dict()}


async def test_keys_reach_the_worker_beside_the_log(fleet: Fleet) -> None:
    peer = await application(fleet)

    answer = await query(peer, "PLAINTRANSPORT_CONNECT", "plain", connect_body())

    assert answer["tuple"]["remotePort"] == 5004
    assert (await query(peer, "TRANSPORT_DUMP", "plain"))["tuple"]["remotePort"] == 5004
    assert not any(SRTP.key_base64.encode() in delivery.data for delivery in fleet.broker.entries)
    await fleet.equals_the_log()


@pytest.mark.parametrize(
    ("method", "handler", "body"),
    [
        ("TRANSPORT_SET_MAX_INCOMING_BITRATE", "plain", {"maxIncomingBitrate": 1_000_000}),
        ("TRANSPORT_ENABLE_TRACE_EVENT", "plain", {"events": ["PROBATION"]}),
        ("ROUTER_CREATE_ACTIVESPEAKEROBSERVER", "lobby", {"rtpObserverId": "o", "options": {"interval": 300}}),
        ("WORKER_CREATE_WEBRTCSERVER", "", {"webRtcServerId": "w", "listenInfos": [PLAIN["listenInfo"]]}),
        ("ROUTER_CLOSE_TRANSPORT", "lobby", {"transportId": "plain"}),
        ("WORKER_CLOSE_ROUTER", "", {"routerId": "lobby"}),
    ],
)
async def test_a_query_changes_nothing(fleet: Fleet, method: str, handler: str, body: dict[str, Any]) -> None:
    peer = await application(fleet)
    before = await query(peer, "TRANSPORT_DUMP", "plain"), await query(peer, "ROUTER_DUMP")

    with pytest.raises(MalformedMessage, match="publish this call as an intent"):
        await query(peer, method, handler, body)

    assert (await query(peer, "TRANSPORT_DUMP", "plain"), await query(peer, "ROUTER_DUMP")) == before
    with pytest.raises(NotFound):
        await query(peer, "WEBRTCSERVER_DUMP", "w")
    await fleet.equals_the_log()


async def test_a_dump_shows_nothing_of_others(fleet: Fleet) -> None:
    peer = await application(fleet)
    (place,) = fleet.places("s1")
    stranger = await fleet.join("lobby", "stranger", place)

    assert (await query(peer, "ROUTER_DUMP"))["transportIds"] == ["plain"]
    assert (await query(stranger, "ROUTER_DUMP")).get("transportIds", []) == []
    with pytest.raises(NotFound):
        await query(stranger, "TRANSPORT_DUMP", "plain")


async def test_a_call_beside_the_log_is_done_in_the_order_of_the_intents(fleet: Fleet) -> None:
    peer = await application(fleet)
    session = fleet.agents["s1"].sessions.by_key["lobby", "app"]
    running, gate = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        running.set()
        await gate.wait()

    session.jobs.add(job)
    await running.wait()
    connecting = asyncio.create_task(query(peer, "PLAINTRANSPORT_CONNECT", "plain", connect_body()))
    await fleet.until(lambda: not session.jobs.is_empty, "the call waits behind the job")

    # Reads wait for nothing.
    assert (await query(peer, "TRANSPORT_DUMP", "plain"))["tuple"]["remotePort"] == 0
    assert not connecting.done()

    gate.set()
    assert (await connecting)["tuple"]["remotePort"] == 5004


async def test_a_call_that_waits_when_the_peer_leaves_is_refused(fleet: Fleet) -> None:
    peer = await application(fleet)
    session = fleet.agents["s1"].sessions.by_key["lobby", "app"]
    running, gate = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        running.set()
        await gate.wait()

    session.jobs.add(job)
    await running.wait()
    connecting = asyncio.create_task(query(peer, "PLAINTRANSPORT_CONNECT", "plain", connect_body()))
    await fleet.until(lambda: not session.jobs.is_empty, "the call waits behind the job")
    session.stop()
    gate.set()

    with pytest.raises((NotJoined, NotFound)):
        await connecting


async def test_a_data_producer_of_a_direct_transport_is_paused_from_the_start_and_is_consumed(fleet: Fleet) -> None:
    """It has no SCTP stream; the results have to have one all the same."""
    peer = await application(fleet, method="ROUTER_CREATE_DIRECTTRANSPORT", options=DIRECT)
    stream = {"stream_id": 0, "ordered": True}
    body = produce_data_body("chat", "direct", None, label="chat", protocol="", paused=True)
    made = await request(
        peer,
        intents.ProduceData(
            data_producer="chat",
            transport="plain",
            sctp_stream_parameters=stream,
            label="chat",
            channel=call("TRANSPORT_PRODUCE_DATA", "plain", body),
        ),
        results.ProduceDataResult,
    )
    assert (made["id"], made["paused"]) == ("chat", True)
    await fleet.wait_appended(events.DataProducerOpened)
    assert (await fleet.wait_appended(events.ProducerPaused)).producer == "chat"

    consume = {
        "dataConsumerId": "chat-consumer",
        "dataProducerId": "chat",
        "type": "direct",
        "label": "chat",
        "protocol": "",
        "paused": False,
        "subchannels": [],
    }
    consumed = await request(
        peer,
        intents.ConsumeData(
            data_consumer="chat-consumer",
            transport="plain",
            data_producer="chat",
            channel=call("TRANSPORT_CONSUME_DATA", "plain", consume),
        ),
        results.ConsumeDataResult,
    )
    assert (consumed["dataProducerId"], consumed["dataProducerPaused"]) == ("chat", True)
    await fleet.equals_the_log()

    await peer.ask(intents.Leave(), results.Done)
    await fleet.equals_the_log()


async def test_the_layers_that_a_consumer_chooses_by_a_call_are_sent(fleet: Fleet) -> None:
    peer = await application(fleet)
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    await alice.transport("send")
    await peer.transport("receive")
    await alice.produce("cam", "send", kind="video", report_layers=True)
    await peer.consume("view", "cam", "receive", paused=False)

    async def choose(layer: int) -> None:
        body = {"preferredLayers": {"spatialLayer": layer, "temporalLayer": 0}}
        choice = intents.RequestChannel(call=call("CONSUMER_SET_PREFERRED_LAYERS", "view", body))
        assert (await request(peer, choice))["preferredLayers"]["spatialLayer"] == layer
        told = f"alice is told {layer}"
        await fleet.until(
            lambda: [it.spatial_layer for it in fleet.appended(events.ProducerLayersChanged)][-1:] == [layer], told
        )

    await choose(0)
    await choose(2)
    await fleet.equals_the_log()


async def test_an_observer_observes_until_its_peer_leaves(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", place)
    await alice.transport("send")
    await alice.produce("mic", "send")
    peer = await fleet.join("lobby", "observer", place)
    options = {"rtpObserverId": "speaker", "options": {"interval": 300}}
    await request(peer, intents.RequestChannel(call=call("ROUTER_CREATE_ACTIVESPEAKEROBSERVER", "lobby", options)))
    add = peer.consume_intent("speaker-mic", "mic", "speaker").model_copy(
        update={"channel": call("RTPOBSERVER_ADD_PRODUCER", "speaker", {"producerId": "mic"})}
    )
    await request(peer, add, results.ConsumeResult)
    await fleet.equals_the_log()

    await peer.ask(intents.CloseConsumer(consumer="speaker-mic"), results.Done)
    await fleet.equals_the_log()

    await request(peer, add, results.ConsumeResult)
    await alice.ask(intents.CloseProducer(producer="mic"), results.Done)
    await peer.ask(intents.Leave(), results.Done)
    await fleet.equals_the_log()
