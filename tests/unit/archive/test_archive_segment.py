"""A segment gives back what was put in, byte by byte, or says that it is damaged."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mafalda.archive.errors import ArchiveDamaged
from mafalda.archive.segment import (
    Span,
    encode_segment,
    first_of,
    name_of,
    read_entries,
    read_info,
    verify_segment,
)
from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.envelope import encode
from mafalda.testing.builders import EXAMPLES, message, subject_of

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SUBJECTS = (
    "mafalda.room.r1.peer.alice.event.peer-joined",
    "mafalda.room.r2.event.relay-opened",
    "mafalda.server.s1.event.worker-died",
)


def entries(first: int, count: int) -> list[Delivery]:
    return [
        Delivery(SUBJECTS[seq % 3], b'{"id":"m%d","time":"2026-02-01T00:00:00Z"}' % seq, seq, headers={"a": str(seq)})
        for seq in range(first, first + count)
    ]


def segment(first: int = 11, count: int = 10_000) -> tuple[Span, bytes]:
    """Of more than one row group."""
    span = Span(first, first + count - 1)
    return span, encode_segment(span, entries(first, count), latest=LONG_AGO)[1]


def read(data: bytes, span: Span, after_seq: int = 0, up_to_seq: int | None = None) -> list[Delivery]:
    return list(read_entries(io.BytesIO(data), span, after_seq=after_seq, up_to_seq=up_to_seq))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*SUBJECTS, "mafalda.strange", "mafalda.room.r.peer.p.intent.no such"]),
            st.binary(max_size=60) | st.text(max_size=20).map(str.encode) | st.just(b'{"time": 5, "id": []}'),
            st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=5), max_size=2),
        ),
        max_size=20,
    )
)
def test_any_bytes_come_back_as_they_were(rows: list[tuple[str, bytes, dict[str, str]]]) -> None:
    stored = [Delivery(subject, data, seq, headers=headers) for seq, (subject, data, headers) in enumerate(rows, 1)]
    span = Span(1, max(1, len(rows)))
    info, data = encode_segment(span, stored, latest=LONG_AGO)
    assert read(data, span) == stored
    assert verify_segment(io.BytesIO(data), span) == info


def test_columns_are_those_of_the_envelope() -> None:
    messages = [(subject_of(payload), message(payload)) for payload in EXAMPLES.values() if payload.kind == "event"]
    stored = [Delivery(subject, encode(it), seq) for seq, (subject, it) in enumerate(messages, 1)]
    _, data = encode_segment(Span(1, len(stored)), stored, latest=LONG_AGO)
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["action"] for row in rows] == [it.data.action for _, it in messages]
    assert [row["id"] for row in rows] == [it.id for _, it in messages]
    assert [row["time"] for row in rows] == [it.time for _, it in messages]
    assert {row["kind"] for row in rows} == {"event"}
    assert {row["room"] for row in rows} == {"lobby", None}


@pytest.mark.parametrize(
    ("after", "up_to"), [(0, None), (10, 11), (500, 9_000), (4_106, 4_107), (10_010, None), (0, 10)]
)
def test_a_stretch_is_read_by_sequence(after: int, up_to: int | None) -> None:
    span, data = segment()
    end = span.last if up_to is None else up_to
    assert read(data, span, after, up_to) == [it for it in entries(11, 10_000) if after < it.seq <= end]


def test_a_subject_is_read_alone() -> None:
    span, data = segment()
    found = list(read_entries(io.BytesIO(data), span, takes=lambda subject: ".r2." in subject))
    assert found == [it for it in entries(11, 10_000) if it.subject == SUBJECTS[1]]


def test_deleted_sequences_are_listed() -> None:
    kept = [it for it in entries(1, 10) if it.seq not in (1, 7, 10)]
    info, data = encode_segment(Span(1, 10), kept, latest=LONG_AGO)
    assert info.missing == (1, 7, 10)
    assert read_info(io.BytesIO(data), 1) == info


def test_the_latest_time_never_goes_back() -> None:
    """So that a search by time works although clocks differ between senders."""
    later = datetime(2026, 3, 1, tzinfo=UTC)
    assert encode_segment(Span(1, 3), entries(1, 3), latest=later)[0].latest == later
    assert encode_segment(Span(1, 3), entries(1, 3), latest=LONG_AGO)[0].latest == datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("position", [4, 200, 3_000, -300, -9])
def test_a_changed_byte_is_found(position: int) -> None:
    span, data = segment(count=300)
    changed = bytearray(data)
    changed[position] ^= 0xFF
    with pytest.raises(ArchiveDamaged):
        verify_segment(io.BytesIO(bytes(changed)), span)


@pytest.mark.parametrize("size", [0, 3, 100, -1, -5_000])
def test_a_truncated_file_is_found(size: int) -> None:
    span, data = segment(count=300)
    with pytest.raises(ArchiveDamaged):
        read(data[:size], span)


def test_another_segments_file_is_found() -> None:
    _, data = segment()
    with pytest.raises(ArchiveDamaged, match=r"missing|its name says"):
        read(data, Span(1, 10_000))


@pytest.mark.parametrize("name", ["", "x.parquet", "1.parquet", "0000000000000000.parquet", "README"])
def test_other_files_are_no_segments(name: str) -> None:
    assert first_of(name) is None


def test_names_sort_as_sequences_do() -> None:
    firsts = [1, 10, 100, 10**12]
    assert sorted(map(name_of, firsts)) == [name_of(first) for first in firsts]
    assert [first_of(name_of(first)) for first in firsts] == firsts
