"""Converts the codec's bodies to JSON and back.

Bytes become ``{"$bytes": base64}``, unions ``{"$union": [member, object]}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from mafalda.mediasoup.errors import InvalidParameters

_BYTES, _UNION = "$bytes", "$union"
_DEEPEST = 32


def to_json(value: Any) -> Any:
    """Convert a decoded body to JSON."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [to_json(entry) for entry in value]
    if isinstance(value, tuple):
        return {_UNION: [to_json(entry) for entry in value]}
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return value


def from_json(value: Any, _depth: int = 0) -> Any:
    """Convert JSON to a body that the encoder takes.

    Raises:
        InvalidParameters: The value is nested too deeply, or its bytes are not base64.
    """
    if _depth > _DEEPEST:
        raise InvalidParameters("nested too deeply")
    if isinstance(value, Mapping):
        if len(value) == 1:
            if (text := value.get(_BYTES)) is not None:
                return _bytes(text)
            if isinstance(pair := value.get(_UNION), list):
                return tuple(from_json(entry, _depth + 1) for entry in pair)
        return {key: from_json(entry, _depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_json(entry, _depth + 1) for entry in value]
    return value


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidParameters("bytes must be base64") from None
