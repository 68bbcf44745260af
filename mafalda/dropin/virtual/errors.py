"""Errors as a library hears them from its worker: TypeError, NotFoundError or Error, and a reason.

What does not belong here: raising Mafalda's own.
"""

from __future__ import annotations

from mafalda.errors import BadInput, MafaldaError, NotFound, NotJoined


class Refusal(Exception):
    """What a request is refused with. ``code`` is that of the fleet's own error, if it was one."""

    def __init__(self, error: str, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.code = code


def not_found(handler: str, method: str) -> Refusal:
    """The worker's words for a handler that it does not know."""
    return Refusal("NotFoundError", f"Channel request handler with ID {handler} not found [method:{method}]")


def wrong(reason: str) -> Refusal:
    """Bad parameters."""
    return Refusal("TypeError", reason)


def failed(reason: str) -> Refusal:
    """Anything else."""
    return Refusal("Error", reason)


def refusal_of(error: MafaldaError) -> Refusal:
    """A "no" of the fleet's."""
    match error:
        case NotFound() | NotJoined():
            return Refusal("NotFoundError", error.reason, error.code)
        case BadInput():
            return Refusal("TypeError", error.reason, error.code)
    return Refusal("Error", error.reason, error.code)
