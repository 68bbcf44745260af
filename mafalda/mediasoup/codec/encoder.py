"""Encodes JSON-like dicts as the worker's flatbuffers, and checks every value.

The worker does not verify its input and crashes on a missing field, so everything that is sent to it is checked here
against the schema: types, ranges, enum values, required fields. Unknown keys are ignored, and None means absent.

The layout is front to back: a vtable, its table, then the table's children; flatbuffers requires only that references
point forward. The layout of a table depends only on which fields are present, so it is computed once for each
combination that occurs, and writing a table is one ``struct`` call.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mafalda.mediasoup.codec.schema import INTEGERS, REALS, Enum, Field, Schema, Table, Union
from mafalda.mediasoup.errors import InvalidParameters

# Checks a scalar and returns the value that ``struct`` packs.
_Check = Callable[[Any], Any]
# Appends the value that a field refers to, and returns its position.
_Write = Callable[[bytearray, Any], int]
_U32 = struct.Struct("<I")
_PADDING = tuple(bytes(count) for count in range(9))


class _Refused(Exception):
    """A value does not fit the schema. Each caller appends its part of the path."""

    def __init__(self, reason: str, *path: str) -> None:
        super().__init__(reason)
        self.path = list(path)


class _Step(NamedTuple):
    """One field of a table, in the order in which tables are laid out."""

    bit: int
    name: str
    required: bool
    check: _Check | None
    write: _Write | None
    members: dict[str, tuple[int, _Write]] | None


class _Layout(NamedTuple):
    """The layout of a table with certain fields present.

    Attributes:
        head: The vtable, and the first 4 bytes of the table, which refer to it.
        body: The rest of the table.
        offsets: Of each field in the table, in bytes.
        wide: Whether it has 8-byte fields, which must be aligned.
    """

    head: bytes
    body: struct.Struct
    offsets: tuple[int, ...]
    wide: bool


class Encoder:
    """Encodes tables of one schema. Safe to share: it keeps nothing but layouts."""

    def __init__(self, schema: Schema) -> None:
        self._tables = schema.tables
        self._plans = {name: self._plan(table) for name, table in schema.tables.items()}
        self._layouts: dict[str, dict[int, _Layout]] = {name: {} for name in schema.tables}

    def encode(self, table: str, value: Mapping[str, Any]) -> bytes:
        """Encode ``value`` as a buffer whose root is ``table``.

        Raises:
            InvalidParameters: ``value`` does not fit; ``details["path"]`` is the place.
        """
        out = bytearray(4)
        try:
            _U32.pack_into(out, 0, self._write_table(out, table, value))
        except _Refused as refused:
            path = ".".join(reversed(refused.path)).replace(".[", "[")
            raise InvalidParameters(str(refused), path=path) from None
        except RecursionError:
            raise InvalidParameters("nested too deeply", path="") from None
        return bytes(out)

    def _write_table(self, out: bytearray, table: str, value: Any) -> int:
        """Append a table; returns its position."""
        if type(value) is not dict and not isinstance(value, Mapping):  # the second check is slow
            raise _Refused(f"must be an object, not {type(value).__name__}")
        plan = self._plans[table]
        mask = 0
        values: list[Any] = []
        tags: list[int] = []
        references: list[tuple[int, str, _Write | None, Any]] = []
        for bit, name, required, check, write, members in plan:
            entry = value.get(name)
            if entry is None:
                if required:
                    raise _Refused("is required", name)
                continue
            mask |= bit
            if check is not None:
                try:
                    values.append(check(entry))
                except _Refused as refused:
                    refused.path.append(name)
                    raise
                continue
            if members is not None:
                number, write, entry = _member(members, entry, name)
                tags.append(number)
            references.append((len(values), name, write, entry))
            values.append(0)
        layout = self._layouts[table].get(mask)
        if layout is None:
            layout = self._layouts[table][mask] = _lay_out(
                [item for index, item in enumerate(self._tables[table].laid_out) if mask >> index & 1]
            )
        head, body, offsets, wide = layout
        # A table is aligned to 4 bytes; with 8-byte fields, which are first in it, those are aligned to 8.
        at = len(out) + len(head) - 4
        padding = (4 - at) % 8 if wide else -at % 4
        at += padding
        out += _PADDING[padding]
        out += head
        out += body.pack(*values, *tags)
        for index, name, write, entry in references:
            place = at + offsets[index]
            assert write is not None
            try:
                _U32.pack_into(out, place, write(out, entry) - place)
            except _Refused as refused:
                refused.path.append(name)
                raise
        return at

    def _plan(self, table: Table) -> tuple[_Step, ...]:
        steps = []
        for index, item in enumerate(table.laid_out):
            check, write, members = _scalar_check(item), None, None
            if isinstance(item.target, Union):
                members = {
                    name: (number, self._table_writer(member)) for name, (number, member) in item.target.members.items()
                }
            elif check is None:
                write = self._writer(item)
            steps.append(_Step(1 << index, item.name, item.required, check, write, members))
        return tuple(steps)

    def _writer(self, item: Field) -> _Write:
        target = item.target
        if item.kind == "string":
            return _write_string
        if item.kind == "bytes":
            return _write_bytes
        if item.kind == "parameters" and isinstance(target, Table):
            write_entries = _reference_vector(self._table_writer(target))
            return lambda out, value: write_entries(out, _parameters(value))
        if isinstance(target, Table):
            return self._table_writer(target)
        assert isinstance(target, Field)
        check = _scalar_check(target)
        return _scalar_vector(target, check) if check is not None else _reference_vector(self._writer(target))

    def _table_writer(self, table: Table) -> _Write:
        name = table.name
        return lambda out, value: self._write_table(out, name, value)


def _member(members: dict[str, tuple[int, _Write]], value: Any, name: str) -> tuple[int, _Write, Any]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise _Refused("must be a pair of member and object", name)
    if value[0] not in members:
        raise _Refused(f"must be one of {', '.join(members)}", name)
    return *members[value[0]], value[1]


def _lay_out(fields: list[Field]) -> _Layout:
    slots = [0] * (1 + max((item.slot for item in fields), default=-1))
    code, size_bytes, offsets = "<", 4, []
    for item in fields:
        slots[item.slot] = size_bytes
        offsets.append(size_bytes)
        code += _code(item)
        size_bytes += item.size_bytes
    for item in fields:
        if isinstance(item.target, Union):  # its tag, one byte, is after everything else
            slots[item.slot - 1] = size_bytes
            code += "B"
            size_bytes += 1
    vtable = struct.pack(f"<{len(slots) + 2}H", 4 + 2 * len(slots), size_bytes, *slots)
    # A table begins with the distance to its vtable, which precedes it immediately.
    head = vtable + struct.pack("<i", len(vtable))
    return _Layout(head, struct.Struct(code), tuple(offsets), any(item.size_bytes == 8 for item in fields))


def _code(item: Field) -> str:
    if item.kind in INTEGERS:
        return INTEGERS[item.kind][0]
    if item.kind in REALS:
        return REALS[item.kind][0]
    return {"bool": "?", "enum": "B"}.get(item.kind, "I")


def _scalar_check(item: Field) -> _Check | None:
    """The check of a scalar field; None for a field that refers to something."""
    if item.kind in INTEGERS:
        return _integer_check(*INTEGERS[item.kind][2:])
    if isinstance(item.target, Enum):
        return _enum_check(item.target)
    if item.kind == "bool":
        return _check_bool
    return _check_real if item.kind in REALS else None


def _integer_check(low: int, high: int) -> _Check:
    def check(value: Any) -> int:
        if type(value) is not int:
            raise _Refused(f"must be an integer, not {type(value).__name__}")
        if not low <= value <= high:
            raise _Refused(f"must be from {low} to {high}")
        return value

    return check


def _enum_check(enum: Enum) -> _Check:
    numbers = enum.number_of

    def check(value: Any) -> int:
        number = numbers.get(value) if isinstance(value, str) else None
        if number is None:
            raise _Refused(f"must be one of {', '.join(numbers)}")
        return number

    return check


def _check_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _Refused(f"must be a boolean, not {type(value).__name__}")
    return value


def _check_real(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Refused("must be a finite number")
    return float(value)


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
    at = _align(out)
    out += _U32.pack(len(value))
    out += value
    out.append(0)  # flatbuffers strings end with a NUL that is not counted
    return at


def _scalar_vector(element: Field, check: _Check) -> _Write:
    code, wide = _code(element), element.size_bytes == 8

    def write(out: bytearray, value: Any) -> int:
        numbers = [_checked(check, index, entry) for index, entry in enumerate(_as_list(value))]
        if wide:
            out += _PADDING[(4 - len(out)) % 8]
        at = _align(out)
        out += struct.pack(f"<I{len(numbers)}{code}", len(numbers), *numbers)
        return at

    return write


def _reference_vector(write_entry: _Write) -> _Write:
    def write(out: bytearray, value: Any) -> int:
        entries = _as_list(value)
        at = _align(out)
        out += _U32.pack(len(entries))
        out += bytes(4 * len(entries))
        for index, entry in enumerate(entries):
            place = at + 4 + 4 * index
            try:
                _U32.pack_into(out, place, write_entry(out, entry) - place)
            except _Refused as refused:
                refused.path.append(f"[{index}]")
                raise
        return at

    return write


def _checked(check: _Check, index: int, entry: Any) -> Any:
    try:
        return check(entry)
    except _Refused as refused:
        refused.path.append(f"[{index}]")
        raise


def _as_list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _Refused(f"must be a list, not {type(value).__name__}")
    return value


def _align(out: bytearray) -> int:
    out += _PADDING[-len(out) % 4]
    return len(out)


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
            typed = ("Integer32Array", entry)
        else:
            raise _Refused(f"cannot be of type {type(entry).__name__}", str(name))
        out.append({"name": name, "value": (typed[0], {"value": typed[1]})})
    return out
