"""PlainTransport: addresses, comedia, SRTP, RTP over real sockets, closing."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, WorkerRequestFailed
from mafalda.media.rtp import TransportTuple
from mafalda.mediasoup import PlainTransport, Router, SctpLimits, Worker
from mafalda.mediasoup.errors import ObjectClosed, WorkerClosed
from tests.conformance.mediasoup.driver_samples import (
    ABS_SEND_TIME,
    LOOPBACK,
    audio,
    opus_packet,
    until,
    vp8,
    vp8_packet,
)

Recorder = Callable[..., list[tuple[str, Any]]]


class Endpoint(asyncio.DatagramProtocol):
    """A UDP socket that keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append(data)

    @property
    def port(self) -> int:
        assert self.transport is not None
        return int(self.transport.get_extra_info("sockname")[1])

    def send(self, data: bytes, to: TransportTuple | None) -> None:
        assert self.transport is not None
        assert to is not None
        self.transport.sendto(data, (to.local_address, to.local_port))


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Endpoint, local_addr=("127.0.0.1", 0)
    )
    yield protocol
    transport.close()


def key(suite_bytes: int = 30) -> str:
    return base64.b64encode(os.urandom(suite_bytes)).decode()


def srtp_of(transport: PlainTransport) -> tuple[str, int]:
    """Suite, and bytes of the key."""
    assert transport.srtp_parameters is not None
    return transport.srtp_parameters.crypto_suite, len(base64.b64decode(transport.srtp_parameters.key_base64))


async def test_defaults(router: Router, record: Recorder) -> None:
    seen = record(router, "newtransport")
    transport = await router.create_plain_transport(
        listen_info={**LOOPBACK, "announcedAddress": "9.9.9.1"}, app_data={"foo": "bar"}
    )
    assert seen == [("newtransport", transport)]
    assert (transport.type, transport.closed, transport.app_data) == ("plain", False, {"foo": "bar"})
    assert (transport.rtcp_mux, transport.comedia) == (True, False)
    assert transport.tuple.local_address == transport.tuple.local_ip == "9.9.9.1"
    assert transport.tuple.local_port > 0
    assert transport.tuple.remote_ip is None
    assert (transport.rtcp_tuple, transport.srtp_parameters, transport.sctp_parameters) == (None, None, None)
    assert transport.sctp_state is None
    dump = await transport.dump()
    assert dump["id"] == transport.id
    assert (dump["rtcpMux"], dump["comedia"]) == (True, False)
    assert dump["tuple"] == {
        "localIp": "9.9.9.1",
        "localAddress": "9.9.9.1",
        "localPort": transport.tuple.local_port,
        "protocol": "udp",
    }
    assert dump["producerIds"] == dump["consumerIds"] == dump["traceEventTypes"] == []


async def test_sctp_and_separate_rtcp(router: Router) -> None:
    limits = SctpLimits(max_send_message_size=1000, max_receive_message_size=2000)
    transport = await router.create_plain_transport(
        listen_info=LOOPBACK, rtcp_mux=False, enable_sctp=True, sctp_limits=limits
    )
    assert transport.rtcp_tuple is not None
    assert transport.rtcp_tuple.local_port != transport.tuple.local_port
    assert [transport.sctp_state] == ["new"]
    assert transport.sctp_parameters is not None
    assert transport.sctp_parameters.port == 5000
    assert transport.sctp_parameters.max_message_size == transport.sctp_parameters.max_receive_message_size == 2000
    assert transport.sctp_parameters.max_send_message_size == 1000
    assert transport.sctp_parameters.is_data_channel is False
    assert (await transport.dump())["sctpState"] == "new"
    await transport.close()
    assert transport.sctp_state == "closed"


async def test_rtcp_listens_elsewhere(router: Router) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    transport = await router.create_plain_transport(listen_info=LOOPBACK, rtcp_listen_info={**LOOPBACK, "port": port})
    assert transport.rtcp_mux is False
    assert transport.rtcp_tuple is not None
    assert transport.rtcp_tuple.local_port == port


@pytest.mark.parametrize("listen_info", [{}, {"ip": "chicken"}, {"ip": 123}, ["127.0.0.1"], None])
async def test_wrong_addresses_are_refused(router: Router, listen_info: Any) -> None:
    with pytest.raises(InvalidParameters):
        await router.create_plain_transport(listen_info=listen_info)
    assert (await router.dump())["transportIds"] == []


async def test_cannot_bind(router: Router) -> None:
    with pytest.raises(WorkerRequestFailed):
        await router.create_plain_transport(listen_info={"ip": "8.8.8.8"})


async def test_srtp(router: Router) -> None:
    transport = await router.create_plain_transport(
        listen_info=LOOPBACK, enable_srtp=True, srtp_crypto_suite="AEAD_AES_256_GCM"
    )
    assert srtp_of(transport) == ("AEAD_AES_256_GCM", 44)
    with pytest.raises(InvalidParameters):  # SRTP needs a key
        await transport.connect(ip="127.0.0.2", port=9999)
    for wrong in (
        {"cryptoSuite": "chicken", "keyBase64": key()},
        {"cryptoSuite": "AEAD_AES_128_GCM", "keyBase64": "="},
    ):
        with pytest.raises(InvalidParameters):
            await transport.connect(ip="127.0.0.2", port=9999, srtp_parameters=wrong)
    await transport.connect(
        ip="127.0.0.2",
        port=9999,
        srtp_parameters={"cryptoSuite": "AES_CM_128_HMAC_SHA1_32", "keyBase64": key()},
    )
    # The worker takes over the endpoint's suite, and makes a key of it.
    assert srtp_of(transport) == ("AES_CM_128_HMAC_SHA1_32", 30)


async def test_srtp_with_comedia(router: Router) -> None:
    transport = await router.create_plain_transport(listen_info=LOOPBACK, enable_srtp=True, comedia=True)
    assert transport.tuple.remote_ip is None
    await transport.connect(srtp_parameters={"cryptoSuite": "AEAD_AES_128_GCM", "keyBase64": key(28)})
    assert srtp_of(transport) == ("AEAD_AES_128_GCM", 28)


async def test_connect(router: Router) -> None:
    transport = await router.create_plain_transport(listen_info=LOOPBACK, rtcp_mux=False)
    await transport.connect(ip="1.2.3.4", port=1234, rtcp_port=1235)
    assert (transport.tuple.remote_ip, transport.tuple.remote_port) == ("1.2.3.4", 1234)
    assert transport.rtcp_tuple is not None
    assert (transport.rtcp_tuple.remote_ip, transport.rtcp_tuple.remote_port) == ("1.2.3.4", 1235)
    with pytest.raises(WorkerRequestFailed):
        await transport.connect(ip="1.2.3.4", port=1234, rtcp_port=1235)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"ip": "::::1234"}, {"ip": "127.0.0.1", "port": 1234, "rtcp_port": 1235}, {"ip": "127.0.0.1"}]
    + [{"ip": "127.0.0.1", "port": port} for port in ("1234", 70000, 1.5, True)],
)
async def test_connect_refuses_wrong_parameters(router: Router, wrong: dict[str, Any]) -> None:
    transport = await router.create_plain_transport(listen_info=LOOPBACK, rtcp_mux=True)
    with pytest.raises(InvalidParameters):
        await transport.connect(**wrong)
    assert transport.tuple.remote_ip is None


async def test_comedia_learns_both_addresses(router: Router, endpoint: Endpoint, record: Recorder) -> None:
    transport = await router.create_plain_transport(listen_info=LOOPBACK, comedia=True, rtcp_mux=False)
    await transport.produce(**audio())
    seen = record(transport, "tuple", "rtcptuple")
    endpoint.send(opus_packet(1), transport.tuple)
    await until(lambda: len(seen) == 1)
    # A receiver report (RFC 3550, 6.4.2) without blocks.
    endpoint.send(bytes.fromhex("80c9000100000001"), transport.rtcp_tuple)
    await until(lambda: len(seen) == 2)
    assert [event for event, _ in seen] == ["tuple", "rtcptuple"]
    assert [tuple_.remote_port for _, tuple_ in seen] == [endpoint.port] * 2
    assert transport.tuple.remote_port == endpoint.port
    stats = (await transport.get_stats())[0]
    assert (stats["type"], stats["comedia"], stats["rtcpMux"]) == ("plain-rtp-transport", True, False)
    assert stats["tuple"]["remotePort"] == stats["rtcpTuple"]["remotePort"] == endpoint.port
    assert stats["rtpBytesReceived"] > 0


async def test_rtp_goes_through(router: Router, endpoint: Endpoint) -> None:
    source = await router.create_plain_transport(listen_info=LOOPBACK, comedia=True)
    producer = await source.produce(**audio())
    sink = await router.create_plain_transport(listen_info=LOOPBACK)
    await sink.connect(ip="127.0.0.1", port=endpoint.port)
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    for sequence in range(10):
        endpoint.send(opus_packet(sequence), source.tuple)
    ssrc = consumer.rtp_parameters.encodings[0].ssrc
    assert ssrc is not None

    def rtp() -> list[bytes]:
        return [data for data in endpoint.received if data[1] & 0x7F == consumer.rtp_parameters.codecs[0].payload_type]

    await until(lambda: len(rtp()) == 10)
    assert {data[8:12] for data in rtp()} == {ssrc.to_bytes(4, "big")}
    assert [data[-24:] for data in rtp()] == [opus_packet(0)[-24:]] * 10


async def test_bandwidth_estimation_is_traced(router: Router, endpoint: Endpoint, record: Recorder) -> None:
    source = await router.create_direct_transport()
    producer = await source.produce(**vp8(77))
    sink = await router.create_plain_transport(listen_info=LOOPBACK)
    await sink.connect(ip="127.0.0.1", port=endpoint.port)
    await sink.enable_trace_event(["bwe", "probation"])
    seen = record(sink, "trace")
    codec = next(codec for codec in router.rtp_capabilities.codecs if codec.mime_type == "video/VP8")
    capabilities = {
        "codecs": [codec],
        "headerExtensions": [{"kind": "video", "uri": ABS_SEND_TIME, "preferredId": 4}],
    }
    consumer = await sink.consume(producer_id=producer.id, rtp_capabilities=capabilities)
    producer.send(vp8_packet(1, 77, key_frame=True))
    await until(lambda: endpoint.received)
    # REMB (draft-alvestrand-rmcat-remb): 1 Mbit/s as 250000 * 2^2, for the consumer's stream.
    ssrc = consumer.rtp_parameters.encodings[0].ssrc
    assert ssrc is not None
    bitrate = ((1 << 24) | (2 << 18) | 250_000).to_bytes(4, "big")
    remb = bytes.fromhex("8fce0005") + (1).to_bytes(4, "big") + bytes(4) + b"REMB" + bitrate + ssrc.to_bytes(4, "big")
    endpoint.send(remb, sink.tuple)
    await until(lambda: any(trace["type"] == "bwe" for _, trace in seen))
    trace = next(trace for _, trace in seen if trace["type"] == "bwe")
    assert trace["direction"] == "out"
    assert trace["info"]["bweType"] == "remb"
    assert trace["info"]["availableBitrate"] > 0


async def test_stats_of_an_idle_one(router: Router) -> None:
    transport = await router.create_plain_transport(listen_info=LOOPBACK)
    (stats,) = await transport.get_stats()
    assert stats["transportId"] == transport.id
    assert stats["timestamp"] > 0
    counters = [key for key in stats if key.endswith(("Received", "Sent", "Bitrate"))]
    assert len(counters) == 14
    assert all(stats[key] == 0 for key in counters)
    assert stats["tuple"]["localPort"] == transport.tuple.local_port
    assert "rtcpTuple" not in stats


async def test_a_fixed_port(router: Router) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    transport = await router.create_plain_transport(listen_info={**LOOPBACK, "port": port})
    assert transport.tuple.local_port == port


async def test_ends(router: Router, worker: Worker, record: Recorder) -> None:
    mine, routers, workers = [await router.create_plain_transport(listen_info=LOOPBACK) for _ in range(3)]
    seen = record(mine, "routerclose", "close")
    await mine.close()
    assert seen == [("close", "close")]
    calls: list[Callable[[PlainTransport], Any]] = [
        lambda transport: transport.dump(),
        lambda transport: transport.get_stats(),
        lambda transport: transport.connect(ip="127.0.0.1", port=1),
        lambda transport: transport.produce(**audio()),
        lambda transport: transport.consume(producer_id="x", rtp_capabilities={}),
        lambda transport: transport.set_max_incoming_bitrate(1),
    ]
    for call in calls:
        with pytest.raises(ObjectClosed):
            await call(mine)
    assert mine.id not in (await router.dump())["transportIds"]
    seen = record(routers, "routerclose", "close")
    await router.close()
    assert seen == [("routerclose", None), ("close", "routerclose")]
    await worker.close()
    assert workers.closed
    with pytest.raises(WorkerClosed):
        await workers.dump()
