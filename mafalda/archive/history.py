"""Read the archive and the log as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from mafalda.archive.errors import ArchiveGap
from mafalda.archive.store import Archive
from mafalda.bus.log.patterns import matches
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.projection.state import State


async def read_history(
    bus: Bus | None,
    archive: Archive | None,
    *patterns: str,
    after_seq: int = 0,
    up_to_seq: int | None = None,
    since: datetime | None = None,
) -> AsyncIterator[Delivery]:
    """Entries in log order: from the archive as far as it goes, from the log after that.

    Args:
        bus: Reads the log; ``None``: the archive alone.
        archive: Holds what was archived; ``None``: the log alone.
        patterns: Log subjects.
        after_seq: Only later ones.
        up_to_seq: None later than this; ``None``: to the log's end as of now.
        since: Archived segments without an entry of this time or later are not read.

    Raises:
        ArchiveGap: The log begins after the archive's end.
        ArchiveDamaged: A file is missing or not what was written.
        ArchiveUnavailable: The archive cannot be read.
        BusUnavailable: The log cannot be read to its end.
    """
    if archive is not None:
        spans = await asyncio.to_thread(archive.spans)
        archived = spans[-1].last if spans else 0
        if since is not None:
            spans = spans[await asyncio.to_thread(archive.first_with, spans, since) :]
        takes = _takes(patterns)
        for span in spans:
            if span.last <= after_seq or (up_to_seq is not None and span.first > up_to_seq):
                continue
            for entry in await asyncio.to_thread(
                archive.read, span, takes=takes, after_seq=after_seq, up_to_seq=up_to_seq
            ):
                yield entry
        after_seq = max(after_seq, archived)
        if bus is not None and (first_seq := (await bus.log_usage()).first_seq) > archived + 1:
            raise ArchiveGap("the log begins after the archive's end", archived_to=archived, log_begins=first_seq)
    if bus is not None and (up_to_seq is None or after_seq < up_to_seq):
        async for entry in bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq):
            yield entry


def state_before(archive: Archive, *, seq: int | None, at: datetime | None) -> State:
    """The state from which to replay up to a sequence or a time: the last checkpoint that is not later. Blocks.

    Args:
        archive: Has the checkpoints.
        seq: The sequence; ``None``: any.
        at: The time; ``None``: any.

    Raises:
        ArchiveDamaged: A file is missing or not what was written.
    """
    spans = archive.spans()
    if at is not None:
        spans = spans[: archive.first_with(spans, at)]
    for span in reversed([span for span in spans if seq is None or span.last <= seq]):
        if state := archive.checkpoint(span):
            return state
    return State()


def _takes(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    if set(LOG_SUBJECTS) <= set(patterns):
        return None
    return lambda subject: any(matches(pattern, subject) for pattern in patterns)
