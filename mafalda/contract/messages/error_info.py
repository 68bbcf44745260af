"""Errors as messages carry them: from an exception and back."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mafalda.errors import ERRORS_BY_CODE, MafaldaError
from mafalda.media.model import Model


class ErrorInfo(Model):
    """An error on the wire."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, error: MafaldaError) -> ErrorInfo:
        """The wire shape of an error; details that are not JSON scalars become text."""
        details = {
            key: value if isinstance(value, str | int | float | bool | None) else str(value)
            for key, value in error.details.items()
        }
        return cls(code=error.code, message=error.reason, details=details)

    def to_error(self) -> MafaldaError:
        """The exception that this was, so that a client can catch the class the server raised.

        A code that this version does not know becomes a ``MafaldaError`` with the code among its details.
        """
        if known := ERRORS_BY_CODE.get(self.code):
            return known(self.message, **self.details)
        return MafaldaError(self.message, **{**self.details, "code": self.code})
