"""The worker's message schema, as linked tables, enums and unions that the encoder and the decoder walk over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any

from mafalda.mediasoup.codec.words import word_of

# (JSON name, vtable offset, type, default): see ``fbs/schema.py``.
FieldSpec = tuple[str, int, str, Any]
TableSpec = tuple[FieldSpec, ...]

# Type name -> (struct code, size in bytes, lowest, highest); the reals have no integer bounds.
INTEGERS: Mapping[str, tuple[str, int, int, int]] = {
    "u8": ("B", 1, 0, 2**8 - 1),
    "i8": ("b", 1, -(2**7), 2**7 - 1),
    "u16": ("H", 2, 0, 2**16 - 1),
    "i16": ("h", 2, -(2**15), 2**15 - 1),
    "u32": ("I", 4, 0, 2**32 - 1),
    "i32": ("i", 4, -(2**31), 2**31 - 1),
    "u64": ("Q", 8, 0, 2**64 - 1),
    "i64": ("q", 8, -(2**63), 2**63 - 1),
}
REALS: Mapping[str, tuple[str, int]] = {"f32": ("f", 4), "f64": ("d", 8)}
PARAMETER_VECTOR = "[table:FBS.RtpParameters.Parameter]"


@dataclass(frozen=True, slots=True)
class Enum:
    """An enum, by the spelling of its values in JSON. All of the worker's enums are one byte."""

    name: str
    number_of: Mapping[str, int]
    word_of: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Union:
    """A union: its members by name and by number, each with its table."""

    name: str
    members: Mapping[str, tuple[int, Table]]
    by_number: Mapping[int, tuple[str, Table]]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table.

    Attributes:
        name: The JSON name.
        slot: The index in the vtable (a union's type byte is in the slot before it).
        kind: ``bool``, a name of ``INTEGERS`` or ``REALS``, ``enum``, ``string``, ``bytes``, ``table``, ``union``,
            ``parameters`` (codec parameters as a JSON object), or ``vector``.
        size_bytes: The size of the field inside the table.
        default: For scalars; None: absent.
        target: The enum, table or union; for vectors the element, as a field.
    """

    name: str
    slot: int
    kind: str
    size_bytes: int
    default: Any
    required: bool
    target: Enum | Table | Union | Field | None = None


@dataclass(slots=True, eq=False)
class Table:
    """A table: its fields by vtable slot (None: no field), and in the order of the layout, largest first."""

    name: str
    by_slot: list[Field | None] = field(default_factory=list)
    laid_out: list[Field] = field(default_factory=list)
    # Precomputed by an encoder or decoder.
    plan: Any = None


class Schema:
    """All tables, enums and unions, linked with each other."""

    def __init__(
        self,
        tables: Mapping[str, TableSpec],
        enums: Mapping[str, Mapping[str, int]],
        unions: Mapping[str, tuple[tuple[str, str], ...]],
    ) -> None:
        self.tables = {name: Table(name) for name in tables}
        self.enums = {name: _enum(name, values) for name, values in enums.items()}
        self.unions = {name: self._union(name, members) for name, members in unions.items()}
        for name, spec in tables.items():
            table = self.tables[name]
            fields = [self._field(item) for item in spec]
            table.by_slot = [None] * (1 + max((item.slot for item in fields), default=-1))
            for item in fields:
                table.by_slot[item.slot] = item
            table.laid_out = sorted(fields, key=lambda item: -item.size_bytes)

    def _union(self, name: str, members: tuple[tuple[str, str], ...]) -> Union:
        linked = [(number, member, self.tables[table]) for number, (member, table) in enumerate(members, 1)]
        return Union(
            name,
            {member: (number, table) for number, member, table in linked},
            {number: (member, table) for number, member, table in linked},
        )

    def _field(self, spec: FieldSpec) -> Field:
        name, offset, type_, default = spec
        kind, size_bytes, target = self._type(type_)
        required = isinstance(default, EllipsisType)
        if isinstance(target, Enum) and isinstance(default, int):
            default = target.word_of.get(default)
        return Field(name, (offset - 4) // 2, kind, size_bytes, None if required else default, required, target)

    def _type(self, type_: str) -> tuple[str, int, Enum | Table | Union | Field | None]:
        if type_ == PARAMETER_VECTOR:
            return "parameters", 4, self.tables[type_[7:-1]]
        if type_.startswith("["):
            kind, size_bytes, target = self._type(type_[1:-1])
            return "vector", 4, Field("", 0, kind, size_bytes, None, False, target)
        if type_.startswith("table:"):
            return "table", 4, self.tables[type_[6:]]
        if type_.startswith("union:"):
            return "union", 4, self.unions[type_[6:]]
        if type_.startswith("enum:"):
            return "enum", 1, self.enums[type_[5:]]
        if type_ in INTEGERS:
            return type_, INTEGERS[type_][1], None
        if type_ in REALS:
            return type_, REALS[type_][1], None
        return type_, 1 if type_ == "bool" else 4, None


def _enum(name: str, values: Mapping[str, int]) -> Enum:
    words = {number: word_of(name, value) for value, number in values.items()}
    return Enum(name, {word: number for number, word in words.items()}, words)
