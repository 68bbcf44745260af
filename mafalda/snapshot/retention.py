"""Discard old log entries that are covered: by the snapshot before the newest one, and by the archive if there is one.

JetStream itself discards nothing by age: it does not know what is covered. A log that is full of what is not covered
refuses appends rather than lose it.
"""

from __future__ import annotations

from datetime import timedelta

import orjson
import structlog

from mafalda.bus.protocol import Bus, LogUsage
from mafalda.errors import NotFound
from mafalda.snapshot.store import newest_manifest, verify_snapshot

#: The object in which the archive's writer says how far it has come.
ARCHIVE = "archive"
#: A purge costs a call for each replica; fewer entries than this are not worth one.
_LEAST = 100
_log = structlog.get_logger("mafalda.snapshot")


async def set_archived(bus: Bus, seq: int) -> None:
    """Record that there is an archive, and that it has everything up to a log entry."""
    await bus.snapshots.put(ARCHIVE, orjson.dumps({"upToSeq": seq}))


async def archived_seq(bus: Bus) -> int | None:
    """The last log entry that is archived; ``None`` if there is no archive."""
    archive = await bus.snapshots.get(ARCHIVE)
    return int(orjson.loads(archive.data)["upToSeq"]) if archive else None


async def covered_before(bus: Bus) -> int:
    """The first sequence that must be kept whatever its age: what the last snapshot but one covers need not be.

    Raises:
        SnapshotDamaged: That snapshot is not whole.
    """
    newest = await newest_manifest(bus)
    if newest is None or newest.previous is None:
        return 1
    await verify_snapshot(bus, newest.previous)
    archived = await archived_seq(bus)
    covered = newest.previous.seq if archived is None else min(newest.previous.seq, archived)
    return covered + 1


async def discard_covered(bus: Bus, *, max_age_s: float | None, max_bytes: int | None) -> int:
    """Discard entries that are covered and that are too old or too many.

    Args:
        bus: Where.
        max_age_s: Entries that are older than this by NATS' clock, in seconds, are too old; ``None``: none is.
        max_bytes: What the log may hold; ``None``: anything.

    Returns:
        The log's first sequence.

    Raises:
        SnapshotDamaged: The snapshot that a purge would rely on is not whole; nothing is discarded.
        BusUnavailable: The log or the snapshots cannot be reached.
    """
    usage = await bus.log_usage()
    end = usage.last_seq + 1
    wanted = max(await _first_younger(bus, usage, end, max_age_s), _first_within(usage, max_bytes))
    if wanted - usage.first_seq < _LEAST:
        return usage.first_seq
    before = min(await covered_before(bus), wanted)
    if before - usage.first_seq < _LEAST:
        return usage.first_seq
    await bus.purge_log(before_seq=before)
    _log.info("log purged", action="log_purged", first_seq=before, entries=before - usage.first_seq)
    return before


async def _first_younger(bus: Bus, usage: LogUsage, end: int, max_age_s: float | None) -> int:
    """The first sequence before ``end`` that is not too old; by bisection, since times only grow."""
    if max_age_s is None or not usage.entries:
        return usage.first_seq
    try:
        oldest_kept = await bus.stored_at(usage.last_seq) - timedelta(seconds=max_age_s)
        if await bus.stored_at(usage.first_seq) >= oldest_kept:
            return usage.first_seq
        low, high = usage.first_seq, end
        while low < high:
            middle = (low + high) // 2
            if await bus.stored_at(middle) < oldest_kept:
                low = middle + 1
            else:
                high = middle
        return low
    except NotFound:  # another allocator has purged meanwhile
        return usage.first_seq


def _first_within(usage: LogUsage, max_bytes: int | None) -> int:
    """The first sequence from which on the log is small enough, if all entries are of the same size."""
    if max_bytes is None or usage.bytes <= max_bytes or not usage.entries:
        return usage.first_seq
    excess = 1 - max_bytes / usage.bytes
    return usage.first_seq + round((usage.last_seq + 1 - usage.first_seq) * excess)
