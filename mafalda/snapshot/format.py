"""A snapshot as bytes: parts, and a manifest that has their checksums. Pure.

The first part has the servers and what else concerns no single room; each room is in the part that its name's checksum
gives, so that a reader of one room reads the manifest and one part.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mafalda.errors import Broken
from mafalda.projection.codec import FORMAT

Json = dict[str, Any]

#: A part is cut into pieces of at most so many bytes: each has to fit into a NATS message of 1 MiB.
PIECE_BYTES = 512 * 1024
#: Rooms are spread over as many parts as make this many bytes each, before compression: about 60 KB after it.
_PART_BYTES = 512 * 1024


class SnapshotDamaged(Broken):
    """A snapshot is incomplete, of an unknown format, or not what was written."""

    code = "snapshot-damaged"


class Part(BaseModel):
    """One part: the SHA-256 of its bytes, and into how many pieces they are cut."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    pieces: int = Field(ge=1)


class Manifest(BaseModel):
    """What a snapshot consists of. It is written last: without it the parts are no snapshot."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    seq: int = Field(ge=0, description="The log entry as of which the snapshot is.")
    token: str = Field(description="In the names of its parts: two writers at the same entry do not share them.")
    parts: list[Part] = Field(min_length=1)
    rooms: int = Field(ge=0)
    previous: Manifest | None = Field(None, description="The snapshot before; its parts are kept too.")

    def part_of(self, room: str) -> int:
        """The number of the part that a room is in."""
        return _part_of(room, len(self.parts))

    def piece_names(self, number: int) -> list[str]:
        """The names of a part's pieces, in order."""
        return [f"{self.seq}.{self.token}.{number}.{piece}" for piece in range(self.parts[number].pieces)]


def _part_of(room: str, parts: int) -> int:
    return 1 + zlib.crc32(room.encode()) % (parts - 1) if parts > 1 else 0


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
    seq: int, token: str, fleet: Json, rooms: Mapping[str, bytes], previous: Manifest | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """Make a snapshot: its manifest, and the pieces of its parts by name.

    Args:
        seq: The log entry as of which it is.
        token: Of this writer's attempt alone.
        fleet: What concerns no single room.
        rooms: The JSON of each room, by its name.
        previous: The manifest of the last snapshot.
    """
    total = sum(map(len, rooms.values()))
    count = 2 + total // _PART_BYTES if rooms else 1
    by_part: list[list[bytes]] = [[] for _ in range(count)]
    for room, raw in rooms.items():
        by_part[_part_of(room, count)].append(raw)
    bodies = [orjson.dumps(fleet), *(b"[" + b",".join(part) + b"]" for part in by_part[1:])]
    parts = [zlib.compress(body, 1) for body in bodies]
    manifest = Manifest(
        format=FORMAT,
        seq=seq,
        token=token,
        parts=[Part(sha256=hashlib.sha256(it).hexdigest(), pieces=-(-len(it) // PIECE_BYTES)) for it in parts],
        rooms=len(rooms),
        previous=previous.model_copy(update={"previous": None}) if previous else None,
    )
    pieces: dict[str, bytes] = {}
    for number, part in enumerate(parts):
        for index, name in enumerate(manifest.piece_names(number)):
            pieces[name] = part[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
    return manifest, pieces


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


def check_part(manifest: Manifest, number: int, pieces: Sequence[bytes | None]) -> bytes:
    """The bytes of a part.

    Raises:
        SnapshotDamaged: A piece is missing, or they are not what was written.
    """
    whole = [piece for piece in pieces if piece is not None]
    if len(whole) < manifest.parts[number].pieces:
        raise SnapshotDamaged("a part is missing", snapshot_seq=manifest.seq, part=number)
    raw = b"".join(whole)
    if hashlib.sha256(raw).hexdigest() != manifest.parts[number].sha256:
        raise SnapshotDamaged("a part is not what was written", snapshot_seq=manifest.seq, part=number)
    return raw


def decode_part(manifest: Manifest, number: int, pieces: Sequence[bytes | None]) -> Any:
    """Read a part. Errors as of ``check_part``."""
    return orjson.loads(zlib.decompress(check_part(manifest, number, pieces)))


def unpack(manifest: Manifest, parts: Iterable[Any]) -> Snapshot:
    """Put the parts that ``decode_part`` read together."""
    fleet, *rooms = parts
    return Snapshot(manifest.seq, fleet, [room for part in rooms for room in part])
