"""Decodes the worker's flatbuffers into JSON-like dicts in mediasoup's shape.

A table becomes a dict (absent optional fields are absent keys, absent vectors are empty lists), an enum value its
spelling in JSON, a union a ``(member, dict)`` pair, codec parameters a JSON object, and ``data`` fields bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from mafalda.mediasoup.codec.schema import INTEGERS, REALS, Enum, Field, Schema, Table, Union
from mafalda.mediasoup.errors import FramingError

Reader = Callable[[bytes, int], Any]
_U16 = struct.Struct("<H").unpack_from
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_VTABLES = [struct.Struct(f"<{count}H").unpack_from for count in range(64)]
# (JSON name, slot, reader, default, factory of a mutable default), in order of slots.
_Step = tuple[str, int, Reader, Any, Callable[[], Any] | None]
# (JSON name, slot, number of a member -> its name and reader).
_UnionStep = tuple[str, int, dict[int, tuple[str, Reader]]]
_Plan = tuple[tuple[_Step, ...], tuple[_UnionStep, ...]]


class Decoder:
    """Decodes tables of one schema. Stateless after construction."""

    def __init__(self, schema: Schema) -> None:
        self._plans = {name: self._plan(table) for name, table in schema.tables.items()}

    def decode(self, table: str, data: bytes) -> dict[str, Any]:
        """Decode a whole buffer whose root is ``table``.

        Raises:
            FramingError: The bytes are not such a buffer.
        """
        try:
            return self._table(self._plans[table], data, _U32(data, 0)[0])
        except (struct.error, IndexError, UnicodeDecodeError, KeyError, RecursionError) as error:
            raise FramingError("not a message of this schema", table=table, size_bytes=len(data)) from error

    def _table(self, plan: _Plan, data: bytes, at: int) -> dict[str, Any]:
        vtable = at - _I32(data, at)[0]
        count = (_U16(data, vtable)[0] - 4) // 2
        offsets = _VTABLES[count](data, vtable + 4)
        out: dict[str, Any] = {}
        steps, unions = plan
        for name, slot, read, default, fresh in steps:
            offset = offsets[slot] if slot < count else 0
            if offset:
                out[name] = read(data, at + offset)
            elif fresh is not None:
                out[name] = fresh()
            elif default is not None:
                out[name] = default
        for name, slot, members in unions:
            if slot < count and offsets[slot] and offsets[slot - 1]:
                member, read = members[data[at + offsets[slot - 1]]]
                out[name] = (member, read(data, at + offsets[slot]))
        return out

    def _plan(self, table: Table) -> _Plan:
        steps = [_step(self, item) for item in table.by_slot if item and not isinstance(item.target, Union)]
        unions = [
            (
                item.name,
                item.slot,
                {
                    number: (member, self.table_reader(target))
                    for number, (member, target) in item.target.by_number.items()
                },
            )
            for item in table.by_slot
            if item and isinstance(item.target, Union)
        ]
        return tuple(steps), tuple(unions)

    def table_reader(self, table: Table) -> Reader:
        """A reader of a field that refers to ``table``."""
        name = table.name

        def read(data: bytes, at: int) -> dict[str, Any]:
            return self._table(self._plans[name], data, at + _U32(data, at)[0])

        return read


def _step(decoder: Decoder, item: Field) -> _Step:
    fresh: Callable[[], Any] | None = None
    if not item.required and item.kind in ("vector", "parameters"):
        fresh = list if item.kind == "vector" else dict
    return item.name, item.slot, _reader(decoder, item), item.default, fresh


def _reader(decoder: Decoder, item: Field) -> Reader:
    target = item.target
    if item.kind == "string":
        return _read_string
    if item.kind == "bytes":
        return _read_bytes
    if item.kind == "bool":
        return lambda data, at: data[at] != 0
    if isinstance(target, Enum):
        words = target.word_of
        return lambda data, at: words[data[at]]
    if item.kind == "parameters" and isinstance(target, Table):
        return _parameters_reader(_vector_reader(decoder.table_reader(target), 4))
    if isinstance(target, Field):
        return _vector_reader(_reader(decoder, target), target.size_bytes)
    if isinstance(target, Table):
        return decoder.table_reader(target)
    code = INTEGERS[item.kind][0] if item.kind in INTEGERS else REALS[item.kind][0]
    unpack = struct.Struct("<" + code).unpack_from
    return lambda data, at: unpack(data, at)[0]


def _read_string(data: bytes, at: int) -> str:
    return _read_bytes(data, at).decode()


def _read_bytes(data: bytes, at: int) -> bytes:
    at += _U32(data, at)[0]
    end = at + 4 + _U32(data, at)[0]
    if end > len(data):
        raise IndexError(end)
    return data[at + 4 : end]


def _vector_reader(read: Reader, size_bytes: int) -> Reader:
    def read_vector(data: bytes, at: int) -> list[Any]:
        at += _U32(data, at)[0]
        count = _U32(data, at)[0]
        at += 4
        if at + count * size_bytes > len(data):
            raise IndexError(count)
        return [read(data, at + index * size_bytes) for index in range(count)]

    return read_vector


def _parameters_reader(read: Reader) -> Reader:
    def read_parameters(data: bytes, at: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for item in read(data, at):
            member, body = item["value"]
            value = body.get("value", [])
            out[item["name"]] = value != 0 if member == "Boolean" else value
        return out

    return read_parameters
