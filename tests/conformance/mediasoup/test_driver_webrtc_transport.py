"""WebRtcTransport: parameters, bitrates, tracing, and ICE, DTLS and SCTP with a real endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiortc import RTCDataChannel, RTCDataChannelParameters

from mafalda.errors import InvalidParameters, WorkerRequestFailed
from mafalda.mediasoup import Router, SctpLimits, WebRtcTransport, Worker
from mafalda.mediasoup.errors import ObjectClosed, WorkerClosed
from tests.conformance.mediasoup.driver_endpoint import allow_loopback, connected
from tests.conformance.mediasoup.driver_samples import LOOPBACK, audio, until

Recorder = Callable[..., list[tuple[str, Any]]]
SHA256 = ":".join(["AB"] * 32)
CLIENT = {"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": SHA256}]}


@pytest.fixture
async def transport(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LOOPBACK])


async def test_parameters(router: Router, record: Recorder) -> None:
    seen = record(router, "newtransport")
    transport = await router.create_webrtc_transport(
        listen_infos=[
            {"protocol": "udp", "ip": "127.0.0.1", "announcedAddress": "9.9.9.1"},
            {"protocol": "tcp", "ip": "127.0.0.1", "announcedAddress": "foo1.bar.org", "exposeInternalIp": True},
        ],
        enable_tcp=True,
        prefer_udp=True,
        enable_sctp=True,
        sctp_limits=SctpLimits(max_receive_message_size=1_000_000, send_buffer_size=5_000_000),
        initial_available_outgoing_bitrate=1_000_000,
        app_data={"foo": "bar"},
    )
    assert seen == [("newtransport", transport)]
    assert (transport.type, transport.closed, transport.app_data) == ("webrtc", False, {"foo": "bar"})
    assert (transport.ice_role, transport.ice_state, transport.dtls_state) == ("controlled", "new", "new")
    assert transport.ice_parameters.ice_lite is True
    assert transport.ice_parameters.password not in repr(transport.ice_parameters)
    candidates = transport.ice_candidates
    assert [(item.address, item.protocol, item.type, item.tcp_type) for item in candidates] == [
        ("9.9.9.1", "udp", "host", None),
        ("foo1.bar.org", "tcp", "host", "passive"),
        ("127.0.0.1", "tcp", "host", "passive"),
    ]
    assert candidates[0].priority > candidates[1].priority > candidates[2].priority
    assert candidates[1].port == candidates[2].port
    assert (transport.ice_selected_tuple, transport.dtls_remote_cert) == (None, None)
    assert transport.dtls_parameters.role == "auto"
    assert {item.algorithm for item in transport.dtls_parameters.fingerprints} == {
        "sha-1",
        "sha-224",
        "sha-256",
        "sha-384",
        "sha-512",
    }
    assert transport.sctp_state == "new"
    assert transport.sctp_parameters is not None
    assert transport.sctp_parameters.to_json_dict() == {
        "port": 5000,
        "OS": 65535,
        "MIS": 65535,
        "maxMessageSize": 1_000_000,
        "maxSendMessageSize": 262144,
        "maxReceiveMessageSize": 1_000_000,
        "sendBufferSize": 5_000_000,
        "perStreamSendQueueLimit": 2_000_000,
        "maxReceiverWindowBufferSize": 5_242_880,
        "isDataChannel": True,
    }
    dump = await transport.dump()
    assert (dump["id"], dump["direct"], dump["iceRole"], dump["dtlsState"]) == (
        transport.id,
        False,
        "controlled",
        "new",
    )
    assert dump["iceParameters"] == transport.ice_parameters.to_json_dict()
    assert dump["iceCandidates"] == [item.to_json_dict() for item in candidates]
    assert dump["sctpParameters"] == transport.sctp_parameters.to_json_dict()
    assert "iceSelectedTuple" not in dump


async def test_listen_infos_have_their_protocols(router: Router) -> None:
    both = [LOOPBACK, {"protocol": "tcp", "ip": "127.0.0.1"}]
    transport = await router.create_webrtc_transport(listen_infos=both)
    assert [item.protocol for item in transport.ice_candidates] == ["udp", "tcp"]


@pytest.mark.parametrize(
    "options",
    [
        {"listen_infos": []},
        {"listen_infos": [123]},
        {"listen_infos": "127.0.0.1"},
        {"listen_infos": [{"protocol": "udp", "ip": "chicken"}]},
        {"listen_infos": [LOOPBACK], "enable_sctp": 1},
        {"listen_infos": [LOOPBACK], "ice_consent_timeout": 256},
        {"listen_infos": [LOOPBACK], "initial_available_outgoing_bitrate": -1},
        {"listen_infos": [LOOPBACK], "sctp_limits": SctpLimits(max_send_message_size=-1)},
        {"listen_infos": [LOOPBACK], "id": ""},
    ],
)
async def test_wrong_options_are_refused(router: Router, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        await router.create_webrtc_transport(**options)
    assert (await router.dump())["transportIds"] == []


async def test_cannot_bind(router: Router) -> None:
    with pytest.raises(WorkerRequestFailed):
        await router.create_webrtc_transport(listen_infos=[{"protocol": "udp", "ip": "8.8.8.8"}])


async def test_stats(transport: WebRtcTransport) -> None:
    (stats,) = await transport.get_stats()
    assert (stats["type"], stats["transportId"]) == ("webrtc-transport", transport.id)
    assert (stats["iceRole"], stats["iceState"], stats["dtlsState"]) == ("controlled", "new", "new")
    counters = [key for key in stats if key.endswith(("Received", "Sent", "Bitrate"))]
    assert len(counters) == 14
    assert all(stats[key] == 0 for key in counters)
    assert "sctpState" not in stats
    assert "iceSelectedTuple" not in stats


async def test_connect(transport: WebRtcTransport) -> None:
    await transport.connect(dtls_parameters=CLIENT)
    assert transport.dtls_parameters.role == "server"
    with pytest.raises(WorkerRequestFailed):
        await transport.connect(dtls_parameters=CLIENT)
    assert transport.dtls_parameters.role == "server"


async def test_connect_as_client(transport: WebRtcTransport) -> None:
    await transport.connect(dtls_parameters=CLIENT | {"role": "server"})
    assert transport.dtls_parameters.role == "client"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        CLIENT | {"role": "chicken"},
        CLIENT | {"fingerprints": []},
        CLIENT | {"fingerprints": [{"algorithm": "sha-256000", "value": SHA256}]},
        CLIENT | {"fingerprints": [{"algorithm": "sha-256", "value": "chicken"}]},
        CLIENT | {"fingerprints": [{"algorithm": "sha-256"}]},
    ],
)
async def test_connect_refuses_wrong_parameters(transport: WebRtcTransport, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        await transport.connect(dtls_parameters=wrong)
    assert transport.dtls_parameters.role == "auto"


async def test_bitrates(transport: WebRtcTransport) -> None:
    await transport.set_max_incoming_bitrate(1_000_000)
    await transport.set_max_outgoing_bitrate(2_000_000)
    await transport.set_min_outgoing_bitrate(1_000_000)
    (stats,) = await transport.get_stats()
    assert (stats["maxIncomingBitrate"], stats["maxOutgoingBitrate"], stats["minOutgoingBitrate"]) == (
        1_000_000,
        2_000_000,
        1_000_000,
    )
    with pytest.raises(InvalidParameters):
        await transport.set_min_outgoing_bitrate(3_000_000)  # above the maximum
    with pytest.raises(InvalidParameters):
        await transport.set_max_outgoing_bitrate(500_000)  # below the minimum
    for method in (
        transport.set_max_incoming_bitrate,
        transport.set_min_outgoing_bitrate,
        transport.set_max_outgoing_bitrate,
    ):
        await method(0)
        for wrong in (-1, "1", 1.5, 2**64):
            with pytest.raises(InvalidParameters):
                await method(wrong)  # type: ignore[arg-type]


async def test_restart_ice(transport: WebRtcTransport) -> None:
    before = transport.ice_parameters
    after = await transport.restart_ice()
    assert transport.ice_parameters == after
    assert before.username_fragment != after.username_fragment
    assert before.password != after.password
    assert after.ice_lite is True


async def test_trace_types(transport: WebRtcTransport) -> None:
    await transport.enable_trace_event(["probation", "bwe"])
    assert (await transport.dump())["traceEventTypes"] == ["probation", "bwe"]
    await transport.enable_trace_event()
    assert (await transport.dump())["traceEventTypes"] == []
    wrong_ones: list[Any] = ["probation", ["chicken"], ["probation", 5]]
    for wrong in wrong_ones:
        with pytest.raises(InvalidParameters):
            await transport.enable_trace_event(wrong)


async def test_a_real_endpoint(
    router: Router, worker: Worker, record: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_loopback(monkeypatch)
    transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK], enable_sctp=True)
    seen = record(transport, "icestatechange", "iceselectedtuplechange", "dtlsstatechange", "sctpstatechange")
    async with connected(transport) as endpoint:
        await until(lambda: transport.sctp_state == "connected")
        assert transport.ice_state in ("connected", "completed")
        assert transport.dtls_state == "connected"
        assert transport.dtls_remote_cert is not None
        assert transport.dtls_remote_cert.startswith("-----BEGIN CERTIFICATE-----")
        assert transport.ice_selected_tuple is not None
        assert transport.ice_selected_tuple.remote_ip == "127.0.0.1"
        assert transport.ice_selected_tuple.local_port == transport.ice_candidates[0].port
        assert [payload for event, payload in seen if event == "dtlsstatechange"] == ["connecting", "connected"]
        sctp_states = [payload for event, payload in seen if event == "sctpstatechange"]
        assert (sctp_states[0], sctp_states[-1]) == ("connecting", "connected")
        tuples = [payload for event, payload in seen if event == "iceselectedtuplechange"]
        assert tuples == [transport.ice_selected_tuple]
        (stats,) = await transport.get_stats()
        assert (stats["dtlsState"], stats["sctpState"]) == ("connected", "connected")
        assert stats["iceSelectedTuple"]["remotePort"] == transport.ice_selected_tuple.remote_port
        assert stats["bytesReceived"] > 0
        negotiated = {"negotiatedMaxOutboundStreams": 65535, "negotiatedMaxInboundStreams": 65535}
        assert (await transport.dump())["sctpNegotiatedCapabilities"] == negotiated
        assert transport.sctp_negotiated_capabilities == negotiated

        # What the endpoint sends arrives here, in order, and back.
        producer = await transport.produce_data(sctp_stream_parameters={"streamId": 12})
        direct = await router.create_direct_transport()
        listener = await direct.consume_data(data_producer_id=producer.id)
        echo = await transport.consume_data(data_producer_id=producer.id)
        assert echo.sctp_stream_parameters is not None
        messages = record(listener, "message")
        received: list[str | bytes] = []
        up = RTCDataChannel(endpoint.sctp, RTCDataChannelParameters(id=12, negotiated=True))
        down = RTCDataChannel(
            endpoint.sctp, RTCDataChannelParameters(id=echo.sctp_stream_parameters.stream_id, negotiated=True)
        )
        down.on("message", received.append)
        for index in range(100):
            up.send(str(index) if index % 2 else str(index).encode())
        await until(lambda: len(messages) == len(received) == 100)
        assert [int(payload.data) for _, payload in messages] == list(range(100))
        assert [payload.ppid for _, payload in messages] == [53, 51] * 50
        assert [int(message) for message in received] == list(range(100))
        (stats,) = await producer.get_stats()
        assert stats["messagesReceived"] == 100

        # And from here, with a bound on what waits.
        lows = record(echo, "bufferedamountlow")
        await echo.set_buffered_amount_low_threshold(1)
        await echo.send("only to you")
        await echo.send(bytes(200_000))
        await until(lambda: len(received) == 102)
        assert received[100:] == ["only to you", bytes(200_000)]
        await until(lambda: lows)
        assert await echo.get_buffered_amount() == 0
        assert worker.died is None
    await until(lambda: transport.dtls_state == "closed")
    assert not transport.closed


async def test_ends(router: Router, worker: Worker, record: Recorder) -> None:
    mine, routers, workers = [
        await router.create_webrtc_transport(listen_infos=[LOOPBACK], enable_sctp=True) for _ in range(3)
    ]
    seen = record(mine, "close")
    await mine.close()
    assert seen == [("close", "close")]
    assert (mine.ice_state, mine.dtls_state, mine.sctp_state) == ("closed", "closed", "closed")
    calls: list[Callable[[WebRtcTransport], Any]] = [
        lambda transport: transport.dump(),
        lambda transport: transport.get_stats(),
        lambda transport: transport.connect(dtls_parameters=CLIENT),
        lambda transport: transport.restart_ice(),
        lambda transport: transport.set_max_outgoing_bitrate(1),
        lambda transport: transport.enable_trace_event(["bwe"]),
        lambda transport: transport.produce(**audio()),
    ]
    for call in calls:
        with pytest.raises(ObjectClosed):
            await call(mine)
    seen = record(routers, "routerclose", "close")
    await router.close()
    assert seen == [("routerclose", None), ("close", "routerclose")]
    assert (routers.ice_state, routers.dtls_state, routers.sctp_state) == ("closed", "closed", "closed")
    await worker.close()
    assert workers.closed
    with pytest.raises(WorkerClosed):
        await workers.dump()
