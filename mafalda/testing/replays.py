"""Fold recorded logs out of exported files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import orjson

from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.subjects import parse
from mafalda.errors import BadInput
from mafalda.projection.fold import fold
from mafalda.projection.state import State


def entries(path: Path) -> Iterator[tuple[int, str, Message | None]]:
    """Sequence, subject and message of each entry of an exported log; no message if it cannot be decoded."""
    for line in path.read_bytes().splitlines():
        fields = orjson.loads(line)
        raw = orjson.dumps(fields["message"]) if "message" in fields else base64.b64decode(fields["raw"])
        try:
            yield fields["seq"], fields["subject"], decode(raw)
        except BadInput:
            yield fields["seq"], fields["subject"], None


def replay(path: Path) -> State:
    """The state at the end of an exported log."""
    state = State()
    for seq, subject, message in entries(path):
        if address := parse(subject):
            fold(state, seq, address, message.data if message else None)
    return state
