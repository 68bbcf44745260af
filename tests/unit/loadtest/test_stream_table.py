"""Batches of packets are counted as RFC 3550 counts them one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.loadtest.stream_table import StreamTable

CLOCK_RATE = 48_000


@dataclass
class Counter:
    """One stream, packet by packet."""

    received: int = 0
    out_of_order: int = 0
    lowest: int = 0
    highest: int = 0
    jitter_s: float = 0.0
    last: tuple[int, int] = (0, 0)

    def take(self, sequence: int, timestamp: int, arrival_ns: int) -> None:
        if not self.received:
            self.lowest = self.highest = sequence
        else:
            step = (sequence - self.highest + 0x8000) % 0x10000 - 0x8000
            self.out_of_order += step <= 0
            self.lowest = min(self.lowest, self.highest + step)
            self.highest = max(self.highest, self.highest + step)
            ticks = (timestamp - self.last[0] + 0x80000000) % 0x100000000 - 0x80000000
            self.jitter_s += abs((arrival_ns - self.last[1]) / 1e9 - ticks / CLOCK_RATE)
        self.received += 1
        self.last = (timestamp, arrival_ns)


PACKETS = st.tuples(st.integers(0, 2), st.integers(-40, 40), st.integers(0, 50_000_000))


@given(
    st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3),
    st.lists(st.lists(PACKETS, min_size=1, max_size=40), min_size=1, max_size=6),
)
def test_batches_count_as_single_packets_do(starts: list[int], batches: list[list[tuple[int, int, int]]]) -> None:
    table, counters = StreamTable(capacity=1), [Counter() for _ in starts]
    for _ in starts:
        table.add(CLOCK_RATE)
    positions, arrival_ns = list(starts), 1_000_000_000
    for batch in batches:
        packets = []
        for stream, step, gap_ns in batch:
            positions[stream] += step
            arrival_ns += gap_ns
            packets.append(
                (stream, positions[stream] % 0x10000, positions[stream] * 960 % 0x100000000, arrival_ns, 100)
            )
        rows, sequences, timestamps, arrivals, lengths = (np.array(column) for column in zip(*packets, strict=True))
        # As they come from packets: without a sign.
        table.take(rows, sequences.astype(">u2"), timestamps.astype(">u4"), arrivals, lengths)
        for stream, sequence, timestamp, arrival, _ in packets:
            counters[stream].take(sequence, timestamp, arrival)
    assert table["received"].tolist() == [it.received for it in counters]
    assert table["out_of_order"].tolist() == [it.out_of_order for it in counters]
    began = [it for it in counters if it.received]
    totals = table.totals()
    assert totals.expected == sum(it.highest - it.lowest + 1 for it in began)
    assert totals.received_bytes == 100 * totals.received
    means = [it.jitter_s / (it.received - 1) for it in began if it.received > 1]
    assert table.jitters_s().tolist() == pytest.approx(means)


def test_first_packets_are_reported_once() -> None:
    table = StreamTable()
    rows = [table.add(CLOCK_RATE) for _ in range(3)]

    def take(*streams: int) -> list[int]:
        column = np.array(streams)
        result: list[int] = table.take(column, column, column, column, column).tolist()
        return result

    assert take(rows[2], rows[0], rows[2]) == [rows[0], rows[2]]
    assert take(rows[0], rows[1]) == [rows[1]]


def test_a_gap_is_a_loss_across_the_wrap_of_sequence_numbers() -> None:
    table = StreamTable()
    row = table.add(CLOCK_RATE)
    sequences = np.array([65534, 65535, 3], np.uint16)
    same = np.full(3, row)
    table.take(same, sequences, np.arange(3), np.arange(3), np.full(3, 50))
    assert (table.totals().expected, table.totals().lost) == (6, 3)
