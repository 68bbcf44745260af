"""The channel's framing: however the bytes arrive, the payloads are the same; after nonsense everything is refused."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.errors import InvalidParameters
from mafalda.mediasoup.channel.framing import MAX_MESSAGE_BYTES, FrameReader, frame
from mafalda.mediasoup.errors import FramingError

PAYLOADS = st.lists(st.binary(min_size=1, max_size=200), max_size=10)


@given(payloads=PAYLOADS, cuts=st.lists(st.integers(0, 2500), max_size=30))
def test_payloads_do_not_depend_on_how_the_stream_is_split(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    seen = [payload for start, end in itertools.pairwise(places) for payload in reader.feed(stream[start:end])]
    assert seen == payloads
    assert reader.pending_bytes == 0


def test_an_incomplete_frame_waits() -> None:
    reader = FrameReader()
    whole = frame(b"hello")
    assert list(reader.feed(whole[:6])) == []
    assert reader.pending_bytes == 6
    assert list(reader.feed(whole[6:] + whole[:2])) == [b"hello"]
    assert reader.pending_bytes == 2


@pytest.mark.parametrize("length", [0, MAX_MESSAGE_BYTES - 3, 2**32 - 1])
def test_an_impossible_length_breaks_the_stream_for_good(length: int) -> None:
    reader = FrameReader()
    seen: list[bytes] = []
    with pytest.raises(FramingError) as caught:
        seen.extend(reader.feed(frame(b"before") + struct.pack("<I", length)))
    assert caught.value.details["size_bytes"] == length
    with pytest.raises(FramingError):
        list(reader.feed(frame(b"after")))


def test_payloads_before_an_impossible_length_are_yielded() -> None:
    payloads = FrameReader().feed(frame(b"before") + struct.pack("<I", 0))
    assert next(payloads) == b"before"
    with pytest.raises(FramingError):
        next(payloads)


def test_the_largest_message_and_one_byte_more() -> None:
    largest = bytes(MAX_MESSAGE_BYTES - 4)
    framed = frame(largest)
    assert len(framed) == MAX_MESSAGE_BYTES
    assert list(FrameReader().feed(framed)) == [largest]
    with pytest.raises(InvalidParameters):
        frame(largest + b"\0")
