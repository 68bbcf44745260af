"""Checks of arguments that several objects of the driver take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from mafalda.mediasoup.errors import InvalidParameters

T = TypeVar("T")


def check_list(given: Iterable[T], what: str) -> list[T]:
    """The given items, as a list.

    Raises:
        InvalidParameters: They are not a list, tuple or set; the message calls them ``what``.
    """
    if not isinstance(given, list | tuple | set | frozenset):
        raise InvalidParameters(f"{what} must be a list")
    return list(given)


def check_trace_types(types: Iterable[str], known: frozenset[str]) -> list[str]:
    """The given trace event types, without repetition.

    Raises:
        InvalidParameters: One is not in ``known``.
    """
    given = check_list(types, "trace event types")
    unknown = [str(item) for item in given if not isinstance(item, str) or item not in known]
    if unknown:
        raise InvalidParameters("unknown trace event type", unknown=unknown, known=sorted(known))
    return list(dict.fromkeys(given))
