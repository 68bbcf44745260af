"""Ids of objects: checking them, and the scope that tells apart equal producer ids in several routers of one worker.

A worker has one namespace for the producers of all its routers. A router with a scope appends it to the ids of its
producers when it talks to the worker, and removes it from the worker's answers.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from mafalda.mediasoup.errors import InvalidParameters

_ID = re.compile(r"[\x21-\x7e]{1,255}")


def new_id(given: str | None) -> str:
    """The given id, or a new UUID4.

    Raises:
        InvalidParameters: The id is not 1 to 255 printable ASCII characters without spaces.
    """
    return str(uuid.uuid4()) if given is None else check_id(given)


def check_id(given: str) -> str:
    """The given id.

    Raises:
        InvalidParameters: It is not 1 to 255 printable ASCII characters without spaces.
    """
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise InvalidParameters("an id is 1 to 255 printable ASCII characters without spaces")
    return given


def unscoped(value: Any, scope: str) -> Any:
    """An answer of the worker without the scope at the end of every id in it."""
    if not scope:
        return value
    if isinstance(value, str):
        return value.removesuffix(scope)
    if isinstance(value, dict):
        return {unscoped(key, scope): unscoped(entry, scope) for key, entry in value.items()}
    if isinstance(value, list):
        return [unscoped(entry, scope) for entry in value]
    if isinstance(value, tuple):
        return tuple(unscoped(entry, scope) for entry in value)
    return value
