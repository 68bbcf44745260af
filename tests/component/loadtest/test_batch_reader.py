"""Real sockets on loopback, read in batches."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mafalda.loadtest.batch_reader import BatchReader, drops, open_socket


@pytest.fixture
def reader() -> Iterator[BatchReader]:
    opened = BatchReader()
    yield opened
    opened.close()


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        yield opened


def read(reader: BatchReader, count: int) -> list[tuple[int, bytes, int]]:
    """So many packets: their sources, bytes and arrivals."""
    packets: list[tuple[int, bytes, int]] = []
    while len(packets) < count:
        assert select.select([reader], [], [], 30)[0]
        batch = reader.read()
        if batch is not None:
            rows = zip(batch.sources, batch.data, batch.lengths, batch.arrivals_ns, strict=True)
            packets += [(int(source), row[:length].tobytes(), int(at)) for source, row, length, at in rows]
    return packets


def test_packets_of_many_sockets_come_with_source_and_time(reader: BatchReader, sender: socket.socket) -> None:
    before_ns = time.time_ns()
    sockets = {number: open_socket(sender.getsockname(), 65536) for number in (3, 8, 11)}
    try:
        for number, opened in sockets.items():
            reader.add(opened, number)
        sent = {number: [bytes([number, index]) * (1 + index) for index in range(100)] for number in sockets}
        for index in range(100):
            for number, opened in sockets.items():
                sender.sendto(sent[number][index], opened.getsockname())
        read_ns = time.time_ns()
        packets = read(reader, 300)
        for number in sockets:
            assert [packet for source, packet, _ in packets if source == number] == sent[number]
            arrivals = [at for source, _, at in packets if source == number]
            assert all(before_ns - 10**9 < at < time.time_ns() + 10**9 for at in arrivals)
            # The first packets may be stamped when they are read: the kernel begins to stamp a moment after the first
            # socket asks for it (net_enable_timestamp).
            assert np.all(np.diff([at for at in arrivals if at < read_ns]) >= 0)
        assert reader.read() is None
    finally:
        for opened in sockets.values():
            opened.close()


def test_a_removed_socket_is_read_no_more(reader: BatchReader, sender: socket.socket) -> None:
    kept, removed = open_socket(sender.getsockname(), 65536), open_socket(sender.getsockname(), 65536)
    with kept, removed:
        reader.add(kept, 1)
        reader.add(removed, 2)
        reader.remove(removed)
        sender.sendto(b"unread", removed.getsockname())
        sender.sendto(b"read", kept.getsockname())
        assert [(source, packet) for source, packet, _ in read(reader, 1)] == [(1, b"read")]


def test_a_socket_with_more_than_one_call_reads_is_partly_read(reader: BatchReader, sender: socket.socket) -> None:
    with open_socket(sender.getsockname(), 1_000_000) as opened:
        reader.add(opened, 1)
        for index in range(100):
            sender.sendto(bytes([index]), opened.getsockname())
        first = reader.read()
        assert first is not None
        assert first.is_partial
        count = len(first.sources)
        rest = reader.read()
        assert rest is not None
        assert not rest.is_partial
        assert count + len(rest.sources) == 100


def test_what_the_kernel_drops_is_counted(sender: socket.socket) -> None:
    with open_socket(sender.getsockname(), 4096) as opened:
        for _ in range(100):
            sender.sendto(bytes(1000), opened.getsockname())
        assert 0 < drops(opened) < 100


def test_a_server_that_is_gone_is_no_error(reader: BatchReader) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    with open_socket(address, 65536) as opened:
        reader.add(opened, 1)
        opened.send(b"anyone?")
        assert select.select([reader], [], [], 30)[0]  # ECONNREFUSED, from ICMP
        assert reader.read() is None
