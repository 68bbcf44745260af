"""Scopes: what tells apart the same producer id in two routers of one worker, which has one name space for all.

What does not belong here: which router has a scope (``router``).
"""

from __future__ import annotations

from typing import Any


def unscoped(value: Any, scope: str) -> Any:
    """An answer of the worker with the scope taken off every id in it."""
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
