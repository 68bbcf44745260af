"""What publishers send is RTP and RTCP as aiortc's parsers read it, at the pace and size that were asked for."""

from __future__ import annotations

import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSrPacket,
    RtpPacket,
)

from mafalda.loadtest.rtp import Packetizer, StreamShape, requests_key_frame, sent_at_ns

NOW_NS = 1_700_000_000_250_000_000
VIDEO = StreamShape("video", 1_000_000, 25)
AUDIO = StreamShape("audio", 32_000, 1000 / 60)


@pytest.mark.parametrize("shape", [AUDIO, VIDEO])
def test_a_second_of_frames_has_the_bitrate_and_consecutive_numbers(shape: StreamShape) -> None:
    packetizer = Packetizer(shape, ssrc=7, sequence=65_530)
    frames = [packetizer.frame(NOW_NS) for _ in range(round(shape.frames_per_s * 3))]
    packets = [RtpPacket.parse(packet) for frame in frames for packet in frame]
    assert [it.sequence_number for it in packets] == [(65_530 + n) % 65_536 for n in range(len(packets))]
    assert {it.ssrc for it in packets} == {7}
    assert 8 * sum(len(it.payload) for it in packets) == pytest.approx(3 * shape.bitrate_bps, rel=0.01)
    assert packets[-1].timestamp == pytest.approx(3 * shape.clock_rate, rel=0.03)
    assert packetizer.packets == len(packets)
    assert {sent_at_ns(packet) for frame in frames for packet in frame} == {NOW_NS}


def test_a_video_frame_ends_with_the_marker_and_begins_a_partition() -> None:
    packets = [RtpPacket.parse(packet) for packet in Packetizer(VIDEO, ssrc=7).frame(NOW_NS)]
    assert len(packets) > 1
    assert [it.marker for it in packets] == [0] * (len(packets) - 1) + [1]
    starts = [VpxPayloadDescriptor.parse(it.payload)[0].partition_start for it in packets]
    assert starts == [1] + [0] * (len(packets) - 1)


def test_the_first_frame_and_each_requested_one_is_a_key_frame() -> None:
    packetizer = Packetizer(VIDEO, ssrc=7)

    def is_key() -> bool:
        _, frame = VpxPayloadDescriptor.parse(RtpPacket.parse(packetizer.frame(NOW_NS)[0]).payload)
        return frame[0] & 1 == 0  # RFC 6386, 9.1

    assert [is_key(), is_key()] == [True, False]
    packetizer.request_key_frame()
    assert [is_key(), is_key()] == [True, False]


def test_a_level_is_in_the_header_as_the_parameters_say() -> None:
    packetizer = Packetizer(AUDIO, ssrc=7)
    packetizer.level = 35
    declared = AUDIO.parameters(7).header_extensions
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpParameters(headerExtensions=[RTCRtpHeaderExtensionParameters(id=it.id, uri=it.uri) for it in declared])
    )
    packet = RtpPacket.parse(packetizer.frame(NOW_NS)[0], extensions)
    assert packet.extensions.audio_level == (False, 35)
    assert sent_at_ns(packet.payload) == NOW_NS


def test_a_sender_report_says_what_was_sent() -> None:
    packetizer = Packetizer(AUDIO, ssrc=7)
    packets = [packetizer.frame(NOW_NS)[0] for _ in range(3)]
    (report,) = RtcpPacket.parse(packetizer.sender_report(NOW_NS))
    assert isinstance(report, RtcpSrPacket)
    assert report.ssrc == 7
    assert report.sender_info.packet_count == 3
    assert report.sender_info.rtp_timestamp == RtpPacket.parse(packets[-1]).timestamp
    assert report.sender_info.ntp_timestamp >> 32 == NOW_NS // 10**9 + 2_208_988_800
    assert report.sender_info.ntp_timestamp & 0xFFFF_FFFF == 2**30  # a quarter of a second


def test_a_key_frame_request_is_found_in_a_compound_packet() -> None:
    receiver_report = bytes(RtcpRrPacket(ssrc=1))
    assert requests_key_frame(receiver_report + bytes(RtcpPsfbPacket(RTCP_PSFB_PLI, ssrc=1, media_ssrc=7)))
    assert not requests_key_frame(receiver_report)
    assert not requests_key_frame(b"")


def test_a_packet_of_somebody_else_has_no_time() -> None:
    assert sent_at_ns(bytes(200)) is None
