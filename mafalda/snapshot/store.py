"""Write snapshots to the snapshot stream, and read the newest that is whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import structlog

from mafalda.aio.tasks import gather_or_cancel
from mafalda.bus.protocol import Bus
from mafalda.errors import Broken, Conflict
from mafalda.snapshot.format import (
    Json,
    Manifest,
    Snapshot,
    SnapshotDamaged,
    check_part,
    decode_manifest,
    decode_part,
    encode_manifest,
    pack,
    unpack,
)

T = TypeVar("T")
MANIFEST = "manifest"
#: A snapshot that is replaced while it is read is read again, from the new manifest, so many times.
_TRIES = 3
_PARALLEL = 8
_log = structlog.get_logger("mafalda.snapshot")


class SnapshotMissing(Broken):
    """The log begins later than what is known, and no snapshot covers what is before."""

    code = "snapshot-missing"


async def read_snapshot(bus: Bus) -> Snapshot | None:
    """The newest snapshot; ``None`` if there is none and the log has everything.

    Raises:
        SnapshotMissing: None is whole, and the log's beginning has been discarded.
        BusUnavailable: The snapshots cannot be read.
    """
    return await _newest(bus, lambda manifest: _read_whole(bus, manifest))


async def read_fleet(bus: Bus) -> Snapshot | None:
    """The same without its rooms."""

    async def read(manifest: Manifest) -> Snapshot:
        return Snapshot(manifest.seq, await _read_part(bus, manifest, 0))

    return await _newest(bus, read)


async def read_room(bus: Bus, room: str) -> tuple[int, Json | None]:
    """One room as of the newest snapshot, and its sequence; 0 if there is none and the log has everything.

    Raises: As ``read_snapshot``.
    """

    async def read(manifest: Manifest) -> tuple[int, Json | None]:
        number = manifest.part_of(room)
        rooms = await _read_part(bus, manifest, number) if number else []
        return manifest.seq, next((it for it in rooms if it["room"] == room), None)

    return await _newest(bus, read) or (0, None)


async def write_snapshot(bus: Bus, seq: int, fleet: Json, rooms: Mapping[str, bytes]) -> Manifest | None:
    """Write a snapshot, unless there is one that is as new, or another writer is faster.

    Args:
        bus: Where.
        seq: The log entry as of which it is.
        fleet: What concerns no single room.
        rooms: The JSON of each room, by its name.

    Returns:
        Its manifest; ``None``: it was not needed.

    Raises:
        BusUnavailable: It was not written; the last one stays.
    """
    known = await bus.snapshots.get(MANIFEST)
    previous = _manifest_or_none(known.data) if known else None
    if previous and previous.seq >= seq:
        return None
    manifest, pieces = await asyncio.to_thread(pack, seq, secrets.token_hex(4), fleet, rooms, previous)
    for name, piece in pieces.items():
        await bus.snapshots.put(name, piece)
    try:
        await bus.snapshots.put(MANIFEST, encode_manifest(manifest), last_version=known.version if known else 0)
    except Conflict:
        for name in pieces:
            await bus.snapshots.delete(name)
        return None
    await _delete_older(bus, manifest)
    return manifest


async def newest_manifest(bus: Bus) -> Manifest | None:
    """The manifest of the newest snapshot; ``None`` if there is none, or it is damaged."""
    known = await bus.snapshots.get(MANIFEST)
    return _manifest_or_none(known.data) if known else None


async def verify_snapshot(bus: Bus, manifest: Manifest) -> None:
    """Read all parts of a snapshot and compare their checksums.

    Raises:
        SnapshotDamaged: One is missing, or not what was written.
    """
    for number in range(len(manifest.parts)):
        check_part(manifest, number, await _pieces(bus, manifest, number))


async def _delete_older(bus: Bus, manifest: Manifest) -> None:
    """Delete parts of snapshots before the previous one, whoever wrote them."""
    oldest = manifest.previous.seq if manifest.previous else manifest.seq
    for name in await bus.snapshots.names():
        seq = name.partition(".")[0]
        if seq.isdecimal() and int(seq) < oldest:
            await bus.snapshots.delete(name)


async def _newest(bus: Bus, read: Callable[[Manifest], Awaitable[T]]) -> T | None:
    """What ``read`` makes of the newest snapshot that is whole."""
    for left in reversed(range(_TRIES)):
        known = await bus.snapshots.get(MANIFEST)
        if known is None:
            break
        manifest = _manifest_or_none(known.data)
        while manifest:
            try:
                return await read(manifest)
            except SnapshotDamaged as damage:
                again = await bus.snapshots.get(MANIFEST)
                if left and again and again.version != known.version:
                    break  # replaced while it was read
                _log.error("snapshot damaged", action="snapshot_damaged", snapshot_seq=manifest.seq, reason=str(damage))
                manifest = manifest.previous
        else:
            break
    first_seq = (await bus.log_usage()).first_seq
    if first_seq > 1:
        raise SnapshotMissing("no snapshot covers the part of the log that was discarded", first_seq=first_seq)
    return None


async def _read_whole(bus: Bus, manifest: Manifest) -> Snapshot:
    limit = asyncio.Semaphore(_PARALLEL)

    async def read(number: int) -> object:
        async with limit:
            return await _read_part(bus, manifest, number)

    return unpack(manifest, await gather_or_cancel(read(number) for number in range(len(manifest.parts))))


async def _read_part(bus: Bus, manifest: Manifest, number: int) -> Any:
    return await asyncio.to_thread(decode_part, manifest, number, await _pieces(bus, manifest, number))


async def _pieces(bus: Bus, manifest: Manifest, number: int) -> list[bytes | None]:
    found = [await bus.snapshots.get(name) for name in manifest.piece_names(number)]
    return [piece.data if piece else None for piece in found]


def _manifest_or_none(raw: bytes) -> Manifest | None:
    try:
        return decode_manifest(raw)
    except SnapshotDamaged as damage:
        _log.error("snapshot damaged", action="snapshot_damaged", reason=str(damage))
        return None
