"""One segment: a stretch of the log as one Parquet file.

A segment covers every sequence from its first to its last. Sequences that an operator deleted from the stream are
listed in its metadata, so that a segment without such a list has an entry for each sequence. The digest in the metadata
is over all entries as they were stored, so a file that was changed later is found by reading it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mafalda.archive.errors import ArchiveDamaged
from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import parse

#: The version of the columns and the metadata.
FORMAT = "1"
#: Entries of a row group: what one query of a single room has to decompress at least.
_ROW_GROUP = 4_096

_WORD = pa.dictionary(pa.int32(), pa.string())
#: ``message`` is the CloudEvent as it was stored; ``raw`` has the bytes of an entry that is not JSON.
SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("subject", _WORD, nullable=False),
        pa.field("kind", _WORD),
        pa.field("action", _WORD),
        pa.field("room", _WORD),
        pa.field("peer", _WORD),
        pa.field("server", _WORD),
        pa.field("id", pa.string()),
        pa.field("correlation_id", pa.string()),
        pa.field("causation_id", pa.string()),
        pa.field("headers", pa.string()),
        pa.field("message", pa.string()),
        pa.field("raw", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The sequences that a segment covers, both included."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """The file's name: its first sequence, so that of two segments that begin alike only one can be written."""
        return name_of(self.first)


def name_of(first: int) -> str:
    """The name of the segment that begins with a sequence; names sort as sequences do."""
    return f"{first:016d}.parquet"


def first_of(name: str) -> int | None:
    """The first sequence of the segment of this name; ``None`` if it is no segment's name."""
    stem, _, _ = name.partition(".")
    return int(stem) if stem.isdecimal() and int(stem) > 0 and name == name_of(int(stem)) else None


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment's metadata.

    Attributes:
        span: The sequences that it covers.
        entries: How many entries it has.
        missing: Sequences in its span that the stream did not have.
        latest: The latest time of an entry in this segment and all before it.
        sha256: Over the sequence, subject and bytes of each entry, in order.
    """

    span: Span
    entries: int
    missing: tuple[int, ...]
    latest: datetime
    sha256: str


def encode_segment(span: Span, entries: Sequence[Delivery], *, latest: datetime) -> tuple[SegmentInfo, bytes]:
    """Write a stretch of the log as Parquet (zstd, checksums on each page).

    Args:
        span: The sequences that were read.
        entries: Everything that the log has there, in order.
        latest: The latest time in the segments before.
    """
    rows = [_row(entry) for entry in entries]
    times = [row["time"] for row in rows if row["time"] is not None]
    known = {entry.seq for entry in entries}
    info = SegmentInfo(
        span,
        len(entries),
        tuple(seq for seq in range(span.first, span.last + 1) if seq not in known),
        max([latest, *times]),
        _digest(entries),
    )
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(_metadata(info)))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True)
    return info, sink.getvalue()


def read_info(file: IO[bytes], first: int) -> SegmentInfo:
    """Read a segment's metadata, from the end of the file.

    Raises:
        ArchiveDamaged: It is not a segment, or not the one that its name says.
    """
    with _damage_reported(first):
        return _info(_open(file), first)


def read_entries(
    file: IO[bytes],
    span: Span,
    *,
    takes: Callable[[str], bool] | None = None,
    after_seq: int = 0,
    up_to_seq: int | None = None,
) -> Iterator[Delivery]:
    """Read entries of a segment, in order. Row groups outside the sequences are not read.

    Args:
        file: The Parquet file.
        span: What it covers, by its name and that of the next one.
        takes: Whether to read the entries of a subject; ``None``: all.
        after_seq: Only later ones.
        up_to_seq: None later than this; ``None``: to the end.

    Raises:
        ArchiveDamaged: It is not what was written.
    """
    end = span.last if up_to_seq is None else up_to_seq
    with _damage_reported(span.first):
        parquet = _open(file)
        _check_span(_info(parquet, span.first), span)
        seq_column = parquet.schema_arrow.get_field_index("seq")
        for group in range(parquet.num_row_groups):
            bounds = parquet.metadata.row_group(group).column(seq_column).statistics
            if bounds is not None and (bounds.max <= after_seq or bounds.min > end):
                continue
            yield from _rows(parquet.read_row_group(group, use_threads=False), takes, after_seq, end)


def verify_segment(file: IO[bytes], span: Span) -> SegmentInfo:
    """Read a whole segment and compare it with its digest.

    Raises:
        ArchiveDamaged: It is not what was written.
    """
    info = read_info(file, span.first)
    _check_span(info, span)
    file.seek(0)
    entries = list(read_entries(file, span))
    if len(entries) != info.entries or _digest(entries) != info.sha256:
        raise ArchiveDamaged("the entries are not those that were archived", file=span.name)
    return info


def _open(file: IO[bytes]) -> pq.ParquetFile:
    """Without Arrow's threads: they may still end when the interpreter does, which aborts the process."""
    return pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)


class _damage_reported:
    """Turns whatever pyarrow raises about a file into ``ArchiveDamaged``."""

    def __init__(self, first: int) -> None:
        self._name = name_of(first)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | ValueError | KeyError | OSError):
            raise ArchiveDamaged("not a segment of the log", file=self._name, reason=str(error)) from error


def _row(entry: Delivery) -> dict[str, Any]:
    address = parse(entry.subject)
    row: dict[str, Any] = {
        "seq": entry.seq,
        "subject": entry.subject,
        "kind": address.kind if address else None,
        "action": address.action if address else None,
        "room": address.room if address else None,
        "peer": address.peer if address else None,
        "server": address.server if address else None,
        "headers": orjson.dumps(dict(entry.headers)).decode() if entry.headers else None,
        "time": None,
    }
    try:
        event = orjson.loads(entry.data)
        row["message"] = entry.data.decode()
    except ValueError:
        return row | {"raw": entry.data}
    if isinstance(event, dict):
        row |= {"id": _text(event, "id"), "time": _time(event)}
        row |= {"correlation_id": _text(event, "correlationid"), "causation_id": _text(event, "causationid")}
    return row


def _text(event: dict[str, Any], name: str) -> str | None:
    value = event.get(name)
    return value if isinstance(value, str) else None


def _time(event: dict[str, Any]) -> datetime | None:
    try:
        time = datetime.fromisoformat(event["time"])
        return time.astimezone(UTC) if time.tzinfo else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _rows(table: pa.Table, takes: Callable[[str], bool] | None, after_seq: int, end: int) -> Iterator[Delivery]:
    mask = pc.and_(pc.greater(table["seq"], after_seq), pc.less_equal(table["seq"], end))
    if takes is not None:
        wanted = [subject for subject in pc.unique(table["subject"].cast(pa.string())).to_pylist() if takes(subject)]
        mask = pc.and_(mask, pc.is_in(table["subject"].cast(pa.string()), pa.array(wanted, pa.string())))
    for row in table.select(["seq", "subject", "headers", "message", "raw"]).filter(mask).to_pylist():
        yield Delivery(
            subject=row["subject"],
            data=row["message"].encode() if row["message"] is not None else row["raw"],
            seq=row["seq"],
            headers=orjson.loads(row["headers"]) if row["headers"] else {},
        )


def _digest(entries: Sequence[Delivery]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(b"%d %s %d\n" % (entry.seq, entry.subject.encode(), len(entry.data)))
        digest.update(entry.data)
    return digest.hexdigest()


def _metadata(info: SegmentInfo) -> dict[str, str]:
    return {
        "mafalda.format": FORMAT,
        "mafalda.first_seq": str(info.span.first),
        "mafalda.last_seq": str(info.span.last),
        "mafalda.entries": str(info.entries),
        "mafalda.missing": ",".join(map(str, info.missing)),
        "mafalda.latest": info.latest.isoformat(),
        "mafalda.sha256": info.sha256,
    }


def _check_span(info: SegmentInfo, span: Span) -> None:
    if info.span != span:
        raise ArchiveDamaged(
            "a segment is missing, or two overlap", file=span.name, last_seq=info.span.last, expected=span.last
        )


def _info(parquet: pq.ParquetFile, first: int) -> SegmentInfo:
    known = {key.decode(): value.decode() for key, value in (parquet.schema_arrow.metadata or {}).items()}
    if known.get("mafalda.format") != FORMAT:
        raise ArchiveDamaged("not a segment of this format", file=name_of(first), format=known.get("mafalda.format"))
    info = SegmentInfo(
        Span(int(known["mafalda.first_seq"]), int(known["mafalda.last_seq"])),
        int(known["mafalda.entries"]),
        tuple(int(seq) for seq in known["mafalda.missing"].split(",") if seq),
        datetime.fromisoformat(known["mafalda.latest"]),
        known["mafalda.sha256"],
    )
    if info.span.first != first or parquet.metadata.num_rows != info.entries:
        raise ArchiveDamaged("the file is not the segment that its name says", file=name_of(first), has=info.span.name)
    return info
