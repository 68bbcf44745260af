"""What the counters of sampled streams add up to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mafalda.workers.supervision.rtp_sampler import RtpTotals, Series

VIDEO: Series = ("w", "webrtc", "video", "transmit")


def stats(packets: int, *, ssrc: int = 1, lost: int = 0, nacks: int = 0) -> dict[str, Any]:
    return {"ssrc": ssrc, "packetCount": packets, "byteCount": packets * 100, "packetsLost": lost, "nackCount": nacks}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 1000)), max_size=30))
def test_totals_are_the_sum_over_the_streams_however_often_each_had_its_turn(
    turns: list[tuple[str, int, int]],
) -> None:
    totals, streams = RtpTotals(), dict[tuple[str, int], int]()
    for consumer, ssrc, more in turns:
        streams[consumer, ssrc] = streams.get((consumer, ssrc), 0) + more
        assert totals.add(consumer, VIDEO, stats(streams[consumer, ssrc], ssrc=ssrc)) == (more > 0)
    assert sum(total for _, total in totals.read("mafalda.rtp.packets")) == sum(streams.values())
    assert sum(total for _, total in totals.read("mafalda.rtp.io")) == sum(streams.values()) * 100


def test_a_packet_that_was_only_late_takes_nothing_from_a_counter_and_is_not_counted_again() -> None:
    totals = RtpTotals()
    seen = []
    for lost in (10, 7, 10, 12):
        totals.add("c", VIDEO, stats(1, lost=lost))
        seen.append(dict(totals.read("mafalda.rtp.packets.lost"))[VIDEO])
    assert seen == [10, 10, 10, 12]


def test_a_closed_object_stays_counted_and_an_ended_worker_does_not() -> None:
    totals = RtpTotals()
    other: Series = ("x", *VIDEO[1:])
    totals.add("closed", VIDEO, stats(5, nacks=2))
    totals.add("open", other, stats(7))
    totals.keep({"open"}, {"w", "x"})
    assert dict(totals.read("mafalda.rtp.packets")) == {VIDEO: 5, other: 7}
    totals.add("open", other, stats(8))
    assert dict(totals.read("mafalda.rtp.packets"))[other] == 8, "it was remembered"
    totals.keep(set(), {"w"})
    assert dict(totals.read("mafalda.rtp.nacks")) == {VIDEO: 2}
