"""Copies the log into the archive, segment by segment, as soon as one is complete."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog
from pydantic import BaseModel, ConfigDict, Field

from mafalda.aio.retry import retrying
from mafalda.archive.checkpoint import fold_entries
from mafalda.archive.errors import ArchiveGap, ArchiveUnavailable
from mafalda.archive.segment import SegmentInfo, Span, encode_segment
from mafalda.archive.store import Archive
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.errors import BusUnavailable
from mafalda.projection.state import State
from mafalda.snapshot.retention import set_archived

log = structlog.get_logger("mafalda.archive")
_NEVER = datetime.fromtimestamp(0, UTC)


class ArchiveConfig(BaseModel):
    """When a segment is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segment_entries: int = Field(
        20_000, ge=1, description="Entries of a segment: about 50 MB in memory, 3 MB as a file, and 2 s of replay."
    )
    interval_s: float = Field(10, gt=0, description="Seconds between two looks at the log's end.")
    accept_gap: bool = Field(
        False, description="Whether to go on although the log begins later than the archive ends. Says what is lost."
    )


class ArchiveWriter:
    """Archives one log.

    Args:
        bus: Reads the log.
        archive: Takes the segments.
        config: When a segment is complete.
    """

    def __init__(self, bus: Bus, archive: Archive, config: ArchiveConfig) -> None:
        self._bus = bus
        self._archive = archive
        self._config = config
        self._latest = _NEVER
        self._state: State | None = State()  # as of ``archived``; None: not known, so no checkpoints are written
        #: The last sequence that is in the archive.
        self.archived = 0

    async def open(self) -> None:
        """Find the end of the archive.

        Raises:
            ArchiveDamaged: It has gaps.
            ArchiveUnavailable: It cannot be read.
        """
        spans = await asyncio.to_thread(self._archive.spans)
        if spans:
            self._latest = (await asyncio.to_thread(self._archive.info, spans[-1])).latest
            self._state = await asyncio.to_thread(self._archive.checkpoint, spans[-1])
            self.archived = spans[-1].last

    async def write_complete(self) -> list[SegmentInfo]:
        """Archive all segments that are complete.

        Raises:
            ArchiveGap: The log does not have what follows the archive's end.
            ArchiveUnavailable: The archive cannot be written.
            BusUnavailable: The log cannot be read.
        """
        written: list[SegmentInfo] = []
        end = await self._bus.last_seq()
        while end - self.archived >= self._config.segment_entries:
            span = Span(self.archived + 1, self.archived + self._config.segment_entries)
            written += await self._write(span)
        return written

    async def write_all(self) -> list[SegmentInfo]:
        """Archive everything that the log has now, the last segment however short it is. Raises as above."""
        written = await self.write_complete()
        end = await self._bus.last_seq()
        if end > self.archived:
            written += await self._write(Span(self.archived + 1, end))
        return written

    async def _write(self, span: Span) -> list[SegmentInfo]:
        entries = [
            entry async for entry in self._bus.read(*LOG_SUBJECTS, after_seq=span.first - 1, up_to_seq=span.last)
        ]
        self._check_begin(span, entries)
        info, data = await asyncio.to_thread(encode_segment, span, entries, latest=self._latest)
        if info.missing:
            self._state = None
        if self._state:
            await asyncio.to_thread(fold_entries, self._state, entries, span)
            await asyncio.to_thread(self._archive.add_checkpoint, span, self._state)
        if not await asyncio.to_thread(self._archive.add, span, data):
            await self.open()  # another writer has this segment, perhaps with others after it
            return []
        self.archived, self._latest = span.last, info.latest
        log.info(
            "segment archived",
            action="segment_archived",
            first_seq=span.first,
            last_seq=span.last,
            entries=info.entries,
            size_bytes=len(data),
        )
        if info.missing:
            log.warning("the log has holes", action="log_holes", first_seq=info.missing[0], count=len(info.missing))
        return [info]

    def _check_begin(self, span: Span, entries: list[Delivery]) -> None:
        """Refuse a segment whose beginning was discarded from the log: it was archived too late."""
        first = entries[0].seq if entries else span.last + 1
        if first > span.first and not self._config.accept_gap:
            raise ArchiveGap("the log begins after the archive's end", archived_to=span.first - 1, log_begins=first)


async def run_archive(bus: Bus, archive: Archive, config: ArchiveConfig, *, ready: asyncio.Event) -> None:
    """Archive the log for ever. What is unavailable is tried again; from now on the log keeps what is not archived.

    Args:
        bus: Reads the log.
        archive: Takes the segments.
        config: When a segment is complete.
        ready: Set when the end of the archive is found.

    Raises:
        ArchiveGap: The log does not have what follows the archive's end.
        ArchiveDamaged: The archive has gaps.
    """
    writer = ArchiveWriter(bus, archive, config)
    await writer.open()
    await set_archived(bus, writer.archived)  # before anything else: from now on the log keeps what is not archived
    told = writer.archived
    ready.set()
    while True:
        async for attempt in retrying(
            ArchiveUnavailable, BusUnavailable, action="archive_retried", first_s=1.0, longest_s=60.0
        ):
            with attempt:
                await writer.write_complete()
                if writer.archived != told:
                    await set_archived(bus, writer.archived)
                    told = writer.archived
        await asyncio.sleep(config.interval_s)
