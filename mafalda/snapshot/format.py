"""A snapshot as bytes: parts, and a manifest that has their checksums. Pure.

The first part has the servers and what else concerns no single room; each room is in the part that its name's checksum
gives, so that a reader of one room reads the manifest and one part.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mafalda.errors import Broken
from mafalda.projection.codec import FORMAT

Json = dict[str, Any]

#: Rooms are spread over as many parts as make this many bytes each, before compression: about 60 KB after it.
_PART_BYTES = 512 * 1024


class SnapshotDamaged(Broken):
    """A snapshot is incomplete, of an unknown format, or not what was written."""

    code = "snapshot-damaged"


class Manifest(BaseModel):
    """What a snapshot consists of. It is written last: without it the parts are no snapshot."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    seq: int = Field(ge=0, description="The log entry as of which the snapshot is.")
    parts: list[str] = Field(min_length=1, description="SHA-256 of each part.")
    rooms: int = Field(ge=0)
    previous: Manifest | None = Field(None, description="The snapshot before; its parts are kept too.")

    def part_of(self, room: str) -> int:
        """The number of the part that a room is in."""
        return 1 + zlib.crc32(room.encode()) % (len(self.parts) - 1) if len(self.parts) > 1 else 0

    def part_name(self, number: int) -> str:
        """The name of a part."""
        return f"{self.seq}.{number}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was read.

    Attributes:
        seq: The log entry as of which it is.
        fleet: Servers, and what allocators keep that concerns no single room.
        rooms: Each as ``projection.codec.room_to_json`` wrote it, with what allocators keep of it besides.
    """

    seq: int
    fleet: Json
    rooms: list[Json] = field(default_factory=list)


def pack(
    seq: int, fleet: Json, rooms: Mapping[str, bytes], previous: Manifest | None = None
) -> tuple[Manifest, list[bytes]]:
    """Make the parts of a snapshot.

    Args:
        seq: The log entry as of which it is.
        fleet: What concerns no single room.
        rooms: The JSON of each room, by its name.
        previous: The manifest of the last snapshot.
    """
    total = sum(map(len, rooms.values()))
    manifest = Manifest(
        format=FORMAT, seq=seq, parts=[""] * (2 + total // _PART_BYTES if rooms else 1), rooms=len(rooms)
    )
    pieces: list[list[bytes]] = [[] for _ in manifest.parts]
    for room, raw in rooms.items():
        pieces[manifest.part_of(room)].append(raw)
    bodies = [orjson.dumps(fleet), *(b"[" + b",".join(part) + b"]" for part in pieces[1:])]
    parts = [zlib.compress(body, 1) for body in bodies]
    checksums = [hashlib.sha256(part).hexdigest() for part in parts]
    before = previous.model_copy(update={"previous": None}) if previous else None
    return manifest.model_copy(update={"parts": checksums, "previous": before}), parts


def encode_manifest(manifest: Manifest) -> bytes:
    """The JSON of a manifest."""
    return manifest.model_dump_json(exclude_none=True).encode()


def decode_manifest(raw: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        SnapshotDamaged: It is none, or of another format.
    """
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise SnapshotDamaged("not a manifest", problems=error.error_count()) from None
    if manifest.format != FORMAT:
        raise SnapshotDamaged("a snapshot of another format", format=manifest.format, known=FORMAT)
    return manifest


def decode_part(manifest: Manifest, number: int, raw: bytes | None) -> Any:
    """Read a part.

    Raises:
        SnapshotDamaged: It is missing, or not what was written.
    """
    name = manifest.part_name(number)
    if raw is None:
        raise SnapshotDamaged("a part is missing", part=name)
    if hashlib.sha256(raw).hexdigest() != manifest.parts[number]:
        raise SnapshotDamaged("a part is not what was written", part=name)
    return orjson.loads(zlib.decompress(raw))


def unpack(manifest: Manifest, parts: Iterable[Any]) -> Snapshot:
    """Put the parts that ``decode_part`` read together."""
    fleet, *rooms = parts
    return Snapshot(manifest.seq, fleet, [room for part in rooms for room in part])
