"""Find the changes of JSON Schemas that are incompatible with an earlier release.

Within a version only optional fields may be added and descriptions may change: a reader of the earlier release has to
understand messages of today, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

#: Descriptions, which may change.
_ANNOTATIONS = frozenset({"title", "description", "examples", "$comment", "deprecated"})
#: Keywords that are compared by their content; all others must be equal.
_STRUCTURE = frozenset({"properties", "required", "items", "additionalProperties", "anyOf", "allOf", "oneOf"})


def breaking_changes(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """The incompatible changes of all schemas of a release, by file name. A new message is compatible."""
    found = []
    for name, schema in sorted(old.items()):
        if name in new:
            found += [f"{name}: {change}" for change in schema_changes(schema, new[name])]
        else:
            found.append(f"{name}: is gone")
    return found


def schema_changes(old: Schema, new: Schema) -> list[str]:
    """The incompatible changes of one schema, with their paths; empty if only optional fields were added."""
    return list(_changes("data", _Part(old, old), _Part(new, new)))


class _Part:
    """A part of a schema, and the whole schema, for references."""

    def __init__(self, schema: Any, root: Schema) -> None:
        self.root = root
        while isinstance(schema, Mapping) and "$ref" in schema:
            siblings = {name: value for name, value in schema.items() if name not in ("$ref", *_ANNOTATIONS)}
            schema = {**self._look_up(schema["$ref"]), **siblings}
        self.schema = schema

    def _look_up(self, reference: str) -> Schema:
        prefix = "#/$defs/"
        if not reference.startswith(prefix):
            raise ValueError(f"a reference out of the schema: {reference}")
        found: Schema = self.root["$defs"][reference.removeprefix(prefix)]
        return found

    def of(self, schema: Any) -> _Part:
        return _Part(schema, self.root)


def _changes(where: str, old: _Part, new: _Part) -> Iterator[str]:
    if not isinstance(old.schema, Mapping) or not isinstance(new.schema, Mapping):
        if old.schema != new.schema:
            yield f"{where}: {old.schema!r} became {new.schema!r}"
        return
    yield from _keyword_changes(where, old.schema, new.schema)
    yield from _field_changes(where, old, new)
    for keyword in ("items", "additionalProperties"):
        if keyword in old.schema and keyword in new.schema:
            yield from _changes(f"{where}[]", old.of(old.schema[keyword]), new.of(new.schema[keyword]))
        elif keyword in old.schema or keyword in new.schema:
            yield f"{where}: {keyword} came or went"
    for keyword in ("anyOf", "allOf", "oneOf"):
        before, after = old.schema.get(keyword, ()), new.schema.get(keyword, ())
        if len(before) != len(after):
            yield f"{where}: {keyword} had {len(before)} choices, has {len(after)}"
            continue
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{where}<{number}>", old.of(one), new.of(other))


def _keyword_changes(where: str, old: Schema, new: Schema) -> Iterator[str]:
    names = (old.keys() | new.keys()) - _ANNOTATIONS - _STRUCTURE - {"$defs"}
    for name in sorted(names):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"{where}: {name} was {before!r}, is {after!r}"


def _field_changes(where: str, old: _Part, new: _Part) -> Iterator[str]:
    before, after = old.schema.get("properties", {}), new.schema.get("properties", {})
    had_to, has_to = set(old.schema.get("required", ())), set(new.schema.get("required", ()))
    for name in sorted(before.keys() - after.keys()):
        yield f"{where}.{name}: is gone"
    for name in sorted(has_to - had_to):
        yield f"{where}.{name}: must be there now"
    for name in sorted((had_to - has_to) & after.keys()):
        yield f"{where}.{name}: may be absent now"
    for name in sorted(before.keys() & after.keys()):
        yield from _changes(f"{where}.{name}", old.of(before[name]), new.of(after[name]))
