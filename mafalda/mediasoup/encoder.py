"""From JSON-like dicts to the worker's bytes, checking every value on the way.

The worker does not verify its input and dies of a missing field, so this is where everything that goes to it
is checked against the schema: types, ranges, words, required fields. Unknown keys are ignored, None is absent.
The layout is front to back: a vtable, its table, then the table's children, which flatbuffers allows since
references only have to point forward.

What does not belong here: reading (``decoder``), which message to send (``messages``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.schema import INTEGERS, REALS, Enum, Field, Schema, Table, Union

_U32 = struct.Struct("<I").pack_into
_I32 = struct.Struct("<i").pack_into
_U8 = struct.Struct("<B").pack_into
_PACK = {
    **{kind: struct.Struct("<" + code).pack_into for kind, (code, _, _, _) in INTEGERS.items()},
    **{kind: struct.Struct("<" + code).pack_into for kind, (code, _) in REALS.items()},
    "bool": struct.Struct("<?").pack_into,
    "enum": _U8,
}
_ZEROS = bytes(256)


class _Refused(Exception):
    """A value does not fit; the path is completed on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


class Encoder:
    """Writes tables of one schema. Stateless after construction."""

    def __init__(self, schema: Schema) -> None:
        self._tables = schema.tables

    def encode(self, table: str, value: Mapping[str, Any]) -> bytes:
        """Encode ``value`` as a buffer whose root is ``table``.

        Raises:
            InvalidParameters: ``value`` does not fit; ``details["path"]`` says where.
        """
        out = bytearray(4)
        try:
            _U32(out, 0, _write_table(out, self._tables[table], value))
        except _Refused as refused:
            path = ".".join(reversed(refused.path)).replace(".[", "[")
            raise InvalidParameters(str(refused), path=path) from None
        except RecursionError:
            raise InvalidParameters("nested too deeply", path="") from None
        return bytes(out)


def _write_table(out: bytearray, table: Table, value: Any) -> int:
    """Append a table; returns its position."""
    if not isinstance(value, Mapping):
        raise _Refused(f"must be an object, not {type(value).__name__}")
    present: list[tuple[Field, Any]] = []
    slots, wide = 0, False
    for item in table.laid_out:
        entry = value.get(item.name)
        if entry is None:
            if item.required:
                refused = _Refused("is required")
                refused.path.append(item.name)
                raise refused
            continue
        if item.size_bytes == 8:
            wide = True
        if item.slot >= slots:
            slots = item.slot + 1
        present.append((item, entry))
    at = len(out) + 4 + 2 * slots
    at += -at % 4 if not wide else (4 - at) % 8
    vtable = at - 4 - 2 * slots
    offsets = [0] * slots
    size_bytes = 4
    tags: list[tuple[Field, int]] = []
    for item, _ in present:
        offsets[item.slot] = size_bytes
        size_bytes += item.size_bytes
    for item, _ in present:
        if item.kind == "union":
            offsets[item.slot - 1] = size_bytes
            tags.append((item, at + size_bytes))
            size_bytes += 1
    _extend(out, at + size_bytes - len(out))
    struct.pack_into(f"<{slots + 2}H", out, vtable, 4 + 2 * slots, size_bytes, *offsets)
    _I32(out, at, at - vtable)
    for item, entry in present:
        try:
            _write_field(out, at + offsets[item.slot], item, entry)
            for union, tag in tags:
                if union is item:
                    _U8(out, tag, _member(item, entry)[0])
        except _Refused as refused:
            refused.path.append(item.name)
            raise
    return at


def _write_field(out: bytearray, at: int, item: Field, value: Any) -> None:
    kind, target = item.kind, item.target
    if kind in _PACK:
        _PACK[kind](out, at, _scalar(item, value))
        return
    if kind == "string":
        child = _write_string(out, value)
    elif kind == "bytes":
        child = _write_bytes(out, value)
    elif kind == "table" and isinstance(target, Table):
        child = _write_table(out, target, value)
    elif kind == "union":
        _, table, body = _member(item, value)
        child = _write_table(out, table, body)
    elif kind == "parameters" and isinstance(target, Table):
        entries = _parameters(value)
        child = _write_vector(out, Field("", 0, "table", 4, None, False, target), entries)
    elif isinstance(target, Field):
        child = _write_vector(out, target, value)
    else:
        raise AssertionError(kind)
    _U32(out, at, child - at)


def _scalar(item: Field, value: Any) -> Any:
    kind = item.kind
    if kind in INTEGERS:
        _, _, low, high = INTEGERS[kind]
        if type(value) is not int:
            raise _Refused(f"must be an integer, not {type(value).__name__}")
        if not low <= value <= high:
            raise _Refused(f"must be from {low} to {high}")
        return value
    if isinstance(item.target, Enum):
        number = item.target.number_of.get(value) if isinstance(value, str) else None
        if number is None:
            raise _Refused(f"must be one of {', '.join(item.target.number_of)}")
        return number
    if kind == "bool":
        if type(value) is not bool:
            raise _Refused(f"must be a boolean, not {type(value).__name__}")
        return value
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Refused("must be a finite number")
    return value


def _member(item: Field, value: Any) -> tuple[int, Table, Any]:
    if not isinstance(item.target, Union) or not isinstance(value, tuple) or len(value) != 2:
        raise _Refused("must be a pair of member and object")
    if value[0] not in item.target.members:
        raise _Refused(f"must be one of {', '.join(item.target.members)}")
    number, table = item.target.members[value[0]]
    return number, table, value[1]


def _write_string(out: bytearray, value: Any) -> int:
    if not isinstance(value, str):
        raise _Refused(f"must be a string, not {type(value).__name__}")
    try:
        return _write_bytes(out, value.encode())
    except UnicodeEncodeError:
        raise _Refused("must be valid Unicode") from None


def _write_bytes(out: bytearray, value: Any) -> int:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _Refused(f"must be bytes, not {type(value).__name__}")
    at = len(out) + (-len(out) % 4)
    _extend(out, at + 4 - len(out))
    _U32(out, at, len(value))
    out += value
    out.append(0)  # flatbuffers strings end with a NUL that is not counted
    return at


def _write_vector(out: bytearray, element: Field, value: Any) -> int:
    if not isinstance(value, list | tuple):
        raise _Refused(f"must be a list, not {type(value).__name__}")
    at = len(out) + (-len(out) % 4)
    if element.size_bytes == 8:
        at += (4 - at) % 8
    _extend(out, at + 4 + len(value) * element.size_bytes - len(out))
    _U32(out, at, len(value))
    for index, entry in enumerate(value):
        try:
            _write_field(out, at + 4 + index * element.size_bytes, element, entry)
        except _Refused as refused:
            refused.path.append(f"[{index}]")
            raise
    return at


def _parameters(value: Any) -> list[dict[str, Any]]:
    """Codec parameters as the entries of the worker's vector, with mediasoup's choice of types."""
    if not isinstance(value, Mapping):
        raise _Refused(f"must be an object, not {type(value).__name__}")
    out: list[dict[str, Any]] = []
    for name, entry in value.items():
        if entry is None:
            continue
        if isinstance(entry, bool):
            typed: tuple[str, Any] = ("Boolean", int(entry))
        elif isinstance(entry, int):
            typed = ("Integer32", entry)
        elif isinstance(entry, float):
            typed = ("Integer32", int(entry)) if entry.is_integer() else ("Double", entry)
        elif isinstance(entry, str):
            typed = ("String", entry)
        elif isinstance(entry, list | tuple):
            typed = ("Integer32Array", list(entry))
        else:
            refused = _Refused(f"cannot be of type {type(entry).__name__}")
            refused.path.append(str(name))
            raise refused
        out.append({"name": name, "value": (typed[0], {"value": typed[1]})})
    return out


def _extend(out: bytearray, count: int) -> None:
    out += _ZEROS[:count] if count <= 256 else bytes(count)
