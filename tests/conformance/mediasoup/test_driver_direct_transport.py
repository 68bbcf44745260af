"""DirectTransport: dump, statistics, RTCP, refused methods, closing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, UnsupportedError
from mafalda.mediasoup import Router, SctpLimits
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import until, vp8, vp8_packet

Recorder = Callable[..., list[tuple[str, Any]]]


async def test_dump_and_stats(router: Router, record: Recorder) -> None:
    seen = record(router, "newtransport")
    limits = SctpLimits(max_send_message_size=1024, max_receive_message_size=2048)
    transport = await router.create_direct_transport(sctp_limits=limits, app_data={"foo": "bar"})
    assert seen == [("newtransport", transport)]
    assert (transport.type, transport.closed, transport.app_data) == ("direct", False, {"foo": "bar"})
    assert (transport.sctp_parameters, transport.sctp_state) == (None, None)
    await transport.connect()
    dump = await transport.dump()
    assert (dump["id"], dump["direct"]) == (transport.id, True)
    assert (dump["maxSendMessageSize"], dump["maxReceiveMessageSize"]) == (1024, 2048)
    assert dump["producerIds"] == dump["consumerIds"] == dump["dataProducerIds"] == dump["dataConsumerIds"] == []
    (stats,) = await transport.get_stats()
    assert (stats["type"], stats["transportId"]) == ("direct-transport", transport.id)
    counters = [key for key in stats if key.endswith(("Received", "Sent", "Bitrate"))]
    assert len(counters) == 14
    assert all(stats[key] == 0 for key in counters)


async def test_has_no_bitrates(router: Router) -> None:
    transport = await router.create_direct_transport()
    for method in (
        transport.set_max_incoming_bitrate,
        transport.set_max_outgoing_bitrate,
        transport.set_min_outgoing_bitrate,
    ):
        with pytest.raises(UnsupportedError):
            await method(1_000_000)


async def test_rtcp_both_ways(router: Router, record: Recorder) -> None:
    transport = await router.create_direct_transport()
    producer = await transport.produce(**vp8(77))
    consumer = await transport.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
    seen, traces = record(transport, "rtcp"), record(producer, "trace")
    await producer.enable_trace_event(["sr"])
    producer.send(vp8_packet(1, 77, key_frame=True))
    # A sender report (RFC 3550, 6.4.1): NTP time, RTP time, 50 packets, 1000 octets.
    report = (77).to_bytes(4, "big") + bytes(12) + (50).to_bytes(4, "big") + (1000).to_bytes(4, "big")
    transport.send_rtcp(bytes.fromhex("80c80006") + report)
    await until(lambda: traces)
    assert traces[0][1]["type"] == "sr"
    info = traces[0][1]["info"]
    assert (info["ssrc"], info["packetCount"], info["octetCount"]) == (77, 50, 1000)
    await consumer.request_key_frame()
    await until(lambda: seen)
    pli = seen[0][1]  # RFC 4585, 6.3.1: payload-specific feedback of type 1
    assert (pli[0] & 0x1F, pli[1], int.from_bytes(pli[8:12], "big")) == (1, 206, 77)
    with pytest.raises(InvalidParameters):
        transport.send_rtcp("text")  # type: ignore[arg-type]


async def test_ends(router: Router, record: Recorder) -> None:
    mine, routers = [await router.create_direct_transport() for _ in range(2)]
    seen = record(mine, "close")
    await mine.close()
    assert seen == [("close", "close")]
    for call in (mine.dump, mine.get_stats, mine.connect, mine.produce_data):
        with pytest.raises(ObjectClosed):
            await call()
    with pytest.raises(ObjectClosed):
        mine.send_rtcp(b"")
    seen = record(routers, "routerclose", "close")
    await router.close()
    assert seen == [("routerclose", None), ("close", "routerclose")]
