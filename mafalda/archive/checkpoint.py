"""The fleet's state as of the end of a segment: a replay begins there, and not at the log's first entry. Pure."""

from __future__ import annotations

import hashlib
import zlib

import orjson

from mafalda.archive.errors import ArchiveDamaged
from mafalda.archive.segment import Span
from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.envelope import decode
from mafalda.contract.subjects import parse
from mafalda.errors import BadInput
from mafalda.projection.codec import FORMAT, add_room, add_server, room_to_json, server_to_json
from mafalda.projection.fold import fold
from mafalda.projection.state import State


def fold_entries(state: State, entries: list[Delivery], span: Span) -> None:
    """Fold a segment's entries; one that cannot be decoded changes the sequence only."""
    for entry in entries:
        address = parse(entry.subject)
        try:
            payload = decode(entry.data).data
        except BadInput:
            payload = None
        if address:
            fold(state, entry.seq, address, payload)
    state.seq = span.last


def name_of(span: Span) -> str:
    """The file's name; names sort as sequences do."""
    return f"{span.last:016d}.json.zlib"


def encode_checkpoint(state: State) -> bytes:
    """The bytes of a checkpoint: the SHA-256 of what follows, and compressed JSON."""
    body = zlib.compress(
        orjson.dumps(
            {
                "format": FORMAT,
                "seq": state.seq,
                "servers": [server_to_json(server) for server in state.servers.values()],
                "rooms": [room_to_json(room) for room in state.rooms.values()],
            }
        ),
        6,
    )
    return hashlib.sha256(body).digest() + body


def decode_checkpoint(raw: bytes, span: Span) -> State | None:
    """Read a checkpoint; ``None`` if it is of another format, which a replay from an earlier one makes up for.

    Raises:
        ArchiveDamaged: It is not what was written.
    """
    digest, body = raw[:32], raw[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ArchiveDamaged("a checkpoint is not what was written", file=name_of(span))
    found = orjson.loads(zlib.decompress(body))
    if found["format"] != FORMAT:
        return None
    state = State(seq=found["seq"])
    for server in found["servers"]:
        add_server(state, server)
    for room in found["rooms"]:
        add_room(state, room)
    return state
