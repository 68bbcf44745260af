"""A value for every table of a schema: all that a message of it can hold."""

from __future__ import annotations

from typing import Any

from mafalda.mediasoup.codec.schema import INTEGERS, Enum, Field, Schema, Table, Union

ROOT = "FBS.Message.Message"


def full(table: Table) -> dict[str, Any]:
    """Every field given, each with a value of its own."""
    return {field.name: _value(field) for field in table.by_slot if field is not None}


def message(schema: Schema, kind: str, data: dict[str, Any], member: str | None) -> dict[str, Any]:
    """A whole message with every field of its body."""
    if member is not None:
        _, table = schema.unions[f"FBS.{kind}.Body"].members[member]
        data["body"] = (member, full(table))
    return {"data": (kind, data)}


def _value(field: Field) -> Any:
    target = field.target
    if field.kind == "parameters":
        return {"apt": 101, "usedtx": True, "profile-level-id": "42e01f"}
    if isinstance(target, Field):
        return [_value(target)]
    if isinstance(target, Table):
        return full(target)
    if isinstance(target, Union):
        member, (_, table) = next(iter(target.members.items()))
        return member, full(table)
    if isinstance(target, Enum):
        return next(iter(target.number_of))
    if field.kind in INTEGERS:
        return 1 + sum(field.name.encode()) % 100
    return {"bool": True, "string": f"a {field.name}", "bytes": b"\x80rtp", "f32": 0.5, "f64": 0.25}[field.kind]
