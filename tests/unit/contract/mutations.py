"""Wrong messages, made of right ones: every field of every message, replaced by what a careless sender may write."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.schema.json_schema import envelope_schema, payload_schema
from mafalda.testing.builders import EXAMPLES, message

Path = tuple[int | str, ...]
Schema = Mapping[str, Any]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()

#: What stands in a field's place. Each is wrong for most fields, and right for some.
VALUES: tuple[Any, ...] = (
    ABSENT,
    None,
    True,
    "yes",
    "",
    "600000",
    "a.b",
    "a\n",
    "x" * 65,
    "x" * 5000,
    "ab:cd",
    ":".join(["ab"] * 20),
    ":".join(["ab"] * 32),
    "AUDIO/opus",
    "video/VP8",
    "audio",
    "sha-1",
    "2026-01-01 12:00",
    -1,
    0,
    1,
    1.0,
    1.5,
    2**8,
    2**16,
    2**32,
    2**53,
    [],
    [1],
    {},
    {"x": None},
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One message with one field replaced."""

    payload: type[Payload]
    path: Path
    value: Any

    def fields(self) -> dict[str, Any]:
        """The whole message, as JSON."""
        fields: dict[str, Any] = copy.deepcopy(_EXAMPLES[self.payload])
        parent: Any = fields
        for part in self.path[:-1]:
            parent = parent[part]
        if self.value is not ABSENT:
            parent[self.path[-1]] = self.value
        elif isinstance(parent, list):
            parent.pop(int(self.path[-1]))
        else:
            parent.pop(self.path[-1], None)
        return fields


def places(payload: type[Payload]) -> list[Path]:
    """Every field of a message and of its envelope, there or not, and every item of a list."""
    schema = payload_schema(payload)
    found = [(name,) for name in envelope_schema()["properties"]]
    return [*found, *_places(_EXAMPLES[payload]["data"], schema, schema, ("data",))]


def _places(value: Any, schema: Schema, root: Schema, path: Path) -> Iterator[Path]:
    schema = resolved(schema, root)
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield (*path, number)
            yield from _places(item, schema.get("items", {}), root, (*path, number))
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for name in {**known, **value}:
            yield (*path, name)
            if name in value:
                yield from _places(value[name], known.get(name, {}), root, (*path, name))


def resolved(schema: Schema, root: Schema) -> Schema:
    """The schema that a reference names."""
    name = schema.get("$ref")
    found: Schema = root["$defs"][name.rsplit("/", 1)[-1]] if name else schema
    return found


_EXAMPLES: dict[type[Payload], dict[str, Any]] = {
    payload: orjson.loads(encode(message(example))) for payload, example in EXAMPLES.items()
}
PLACES: dict[type[Payload], list[Path]] = {payload: places(payload) for payload in _EXAMPLES}
