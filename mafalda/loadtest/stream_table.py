"""Counters of all received RTP streams, as columns, so that a batch of packets is counted by a few operations.

Pure: arrays in, arrays changed. Loss, order and jitter are those of RFC 3550, A.3 and A.8, but for the jitter's
smoothing: its mean over the whole time is kept instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_COLUMNS = (
    "clock_rate",
    "received",
    "received_bytes",
    "out_of_order",
    "lowest",  # extended sequence numbers
    "highest",
    "last_timestamp",
    "last_arrival_ns",
    "first_arrival_ns",
    "jitter_samples",
)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over streams."""

    streams: int = 0
    received: int = 0
    received_bytes: int = 0
    expected: int = 0
    out_of_order: int = 0

    @property
    def lost(self) -> int:
        return max(0, self.expected - self.received)


class StreamTable:
    """A row a stream; rows are never given back."""

    def __init__(self, capacity: int = 256) -> None:
        self.size = 0
        self._columns: dict[str, Array] = {name: np.zeros(capacity, np.int64) for name in _COLUMNS}
        self._jitter_s = np.zeros(capacity)

    def __getitem__(self, name: str) -> Array:
        return self._columns[name][: self.size]

    def add(self, clock_rate: int) -> int:
        """A new stream's row."""
        if self.size == len(self._jitter_s):
            self._columns = {name: np.concatenate((each, np.zeros_like(each))) for name, each in self._columns.items()}
            self._jitter_s = np.concatenate((self._jitter_s, np.zeros_like(self._jitter_s)))
        self._columns["clock_rate"][self.size] = clock_rate
        self.size += 1
        return self.size - 1

    def take(self, rows: Array, sequences: Array, timestamps: Array, arrivals_ns: Array, lengths: Array) -> Array:
        """Count packets, in the order in which each stream's arrived.

        Args:
            rows: Of each packet the row of its stream.
            sequences: RTP sequence numbers.
            timestamps: RTP timestamps.
            arrivals_ns: In nanoseconds.
            lengths: In bytes.

        Returns:
            The rows that received their first packet.
        """
        order = np.argsort(rows, kind="stable")
        rows, sequences, timestamps = rows[order], sequences[order].astype(np.int64), timestamps[order].astype(np.int64)
        arrivals_ns, lengths = arrivals_ns[order], lengths[order]
        is_begin = np.empty(len(rows), bool)
        is_begin[0] = True
        np.not_equal(rows[1:], rows[:-1], out=is_begin[1:])
        begins = np.flatnonzero(is_begin)
        counts = np.diff(begins, append=len(rows))
        ends = begins + counts - 1
        streams = rows[begins]
        table = self._columns
        new = table["received"][streams] == 0
        self._start(streams[new], sequences[begins[new]], timestamps[begins[new]], arrivals_ns[begins[new]])
        base = table["highest"][rows]
        steps = (sequences - base + 0x8000 & 0xFFFF) - 0x8000  # from the stream's highest before this batch
        groups = np.cumsum(is_begin) << 20
        highest = np.maximum.accumulate(np.maximum(steps, 0) + groups) - groups
        before = np.empty_like(highest)
        before[1:] = highest[:-1]
        before[begins] = np.where(new, -1, 0)
        if (is_late := steps <= before).any():
            table["out_of_order"][streams] += np.add.reduceat(is_late.astype(np.int64), begins)
            table["lowest"][streams] = np.minimum(table["lowest"][streams], np.minimum.reduceat(base + steps, begins))
        self._take_jitter(rows, streams, begins, timestamps, arrivals_ns, new)
        table["jitter_samples"][streams] += counts - new
        table["highest"][streams] += highest[ends]
        table["received"][streams] += counts
        table["received_bytes"][streams] += np.add.reduceat(lengths, begins)
        table["last_timestamp"][streams] = timestamps[ends]
        table["last_arrival_ns"][streams] = arrivals_ns[ends]
        first: Array = streams[new]
        return first

    def _start(self, rows: Array, sequences: Array, timestamps: Array, arrivals_ns: Array) -> None:
        table = self._columns
        table["lowest"][rows] = table["highest"][rows] = sequences
        table["last_timestamp"][rows] = timestamps
        table["last_arrival_ns"][rows] = table["first_arrival_ns"][rows] = arrivals_ns

    def _take_jitter(
        self, rows: Array, streams: Array, begins: Array, timestamps: Array, arrivals_ns: Array, new: Array
    ) -> None:
        table = self._columns
        earlier_timestamps, earlier_arrivals = np.empty_like(timestamps), np.empty_like(arrivals_ns)
        earlier_timestamps[1:], earlier_arrivals[1:] = timestamps[:-1], arrivals_ns[:-1]
        earlier_timestamps[begins] = table["last_timestamp"][streams]
        earlier_arrivals[begins] = table["last_arrival_ns"][streams]
        ticks = (timestamps - earlier_timestamps + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000
        deviations = np.abs((arrivals_ns - earlier_arrivals) / 1e9 - ticks / table["clock_rate"][rows])
        deviations[begins[new]] = 0  # nothing to compare with
        self._jitter_s[streams] += np.add.reduceat(deviations, begins)

    def totals(self) -> Totals:
        """Sums over all streams."""
        began = self["received"] > 0
        expected = np.where(began, self["highest"] - self["lowest"] + 1, 0)
        return Totals(
            streams=self.size,
            received=int(self["received"].sum()),
            received_bytes=int(self["received_bytes"].sum()),
            expected=int(expected.sum()),
            out_of_order=int(self["out_of_order"].sum()),
        )

    def jitters_s(self) -> Array:
        """The mean interarrival jitter of each stream that has any, in seconds."""
        samples = self["jitter_samples"]
        has = samples > 0
        means: Array = self._jitter_s[: self.size][has] / samples[has]
        return means
