"""Reads of a log entry just what an allocator needs, so that a new allocator catches up quickly. Pure.

Commands and events change the state and are decoded in full. Of a result it matters whom it answers
and whether something was opened. An intent is kept raw: most are answered by somebody else before
this allocator has to look at them. What does not belong here: what follows from an entry (``view``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from mafalda.contract.channels import fits
from mafalda.contract.messages.envelope import Message, decode, peek_id
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.results import Rejected
from mafalda.contract.subjects import Address, parse
from mafalda.errors import BadInput, MalformedMessage

_REJECTED = Rejected.type_name()


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. ``error`` is why it cannot be read, if it should have been."""

    seq: int
    address: Address
    raw: bytes
    id: str | None
    cause: str | None = None
    rejected: bool = False
    generation: int = 0
    message: Message | None = None
    error: BadInput | None = None


def read(seq: int, subject: str, raw: bytes) -> Entry | None:
    """Read an entry as far as its subject calls for; ``None`` if the subject is none of ours."""
    address = parse(subject)
    if address is None:
        return None
    if address.kind == "intent":
        return Entry(seq, address, raw, peek_id(raw))
    if address.kind == "result":
        return _read_result(seq, address, raw)
    try:
        message = _decode(address, raw)
    except BadInput as error:
        return Entry(seq, address, raw, peek_id(raw), error=error)
    return Entry(seq, address, raw, message.id, message.causationid, message=message)


def read_intent(address: Address, raw: bytes) -> Message:
    """The whole of an intent.

    Raises:
        BadInput: It is not a message, or not the intent that its subject says it is.
    """
    return _decode(address, raw)


def read_load(subject: str, raw: bytes) -> ServerLoad:
    """A load report.

    Raises:
        BadInput: It is none, or it is another server's.
    """
    address = parse(subject)
    if address is None:
        raise MalformedMessage("no load report's subject", subject=subject[:128])
    data = _decode(address, raw).data
    if not isinstance(data, ServerLoad):
        raise MalformedMessage("not a load report", type=data.type_name())
    return data


def _decode(address: Address, raw: bytes) -> Message:
    message = decode(raw)
    if not fits(address, message.data):
        raise MalformedMessage("the subject is another message's", type=message.type)
    return message


def _read_result(seq: int, address: Address, raw: bytes) -> Entry:
    try:
        fields: Any = orjson.loads(raw)
        data = fields["data"]
        return Entry(
            seq,
            address,
            raw,
            _text(fields.get("id")),
            _text(fields.get("causationid")),
            rejected=fields["type"] == _REJECTED,
            generation=data.get("generation") if isinstance(data.get("generation"), int) else 0,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Entry(seq, address, raw, None, error=MalformedMessage("a result that cannot be read"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
