"""The base class of all values in messages: snake_case in Python, camelCase in JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A value that travels: snake_case in Python, camelCase in JSON, immutable.

    Unknown fields are ignored, because inside a version schemas grow by optional fields only. The text of a
    validation error does not repeat what was refused: it may be a password or a key.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    def to_json_dict(self) -> dict[str, Any]:
        """The JSON shape: camelCase keys, no absent (``None``) fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
