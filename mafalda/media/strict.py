"""Make pydantic judge integers, numbers and booleans as JSON Schema does."""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import CoreSchema, core_schema

_STRICT = ("int", "float", "bool")
#: Parts of a core schema that hold no types: what they contain is the user's or pydantic's own.
_NO_TYPES = frozenset({"metadata", "serialization", "default", "expected", "function", "cls", "config", "ref"})


def whole_number(value: Any) -> Any:
    """Turn a float without a fraction into an integer: JSON has one kind of number, and some languages write 1.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def with_strict_scalars(schema: CoreSchema) -> CoreSchema:
    """Return ``schema`` with every integer, number and boolean in it strict.

    pydantic by default takes ``"600000"`` and ``true`` for the integers 600000 and 1, and ``"yes"`` for a boolean; a
    JSON Schema validator does not. Its own strict mode for a whole model would also refuse lists where a tuple is
    declared and strings where an enumeration is, so only scalars are made strict, wherever they are in the model.
    A number without a fraction (``1.0``) is an integer, as in JSON Schema.

    Args:
        schema: pydantic's core schema of a model; it is not changed.
    """
    return cast("CoreSchema", _tightened(schema))


def _tightened(part: Any) -> Any:
    if isinstance(part, list):
        return [_tightened(item) for item in part]
    if isinstance(part, tuple):
        return tuple(_tightened(item) for item in part)
    if not isinstance(part, dict):
        return part
    copy = {key: value if key in _NO_TYPES else _tightened(value) for key, value in part.items()}
    if copy.get("type") not in _STRICT or copy.get("strict"):
        return copy
    copy["strict"] = True
    if copy["type"] == "int":
        return core_schema.no_info_before_validator_function(whole_number, cast("CoreSchema", copy))
    return copy
