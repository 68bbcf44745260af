"""The base class of all values in messages: snake_case in Python, camelCase in JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from mafalda.media.strict import with_strict_scalars


class Model(BaseModel):
    """A value that travels: snake_case in Python, camelCase in JSON, immutable.

    Unknown fields are ignored, because inside a version schemas grow by optional fields only. Integers, numbers and
    booleans are what JSON calls so (``media.strict``). The text of a validation error does not repeat what was refused:
    it may be a password or a key.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The validator that pydantic makes of the class, with strict scalars."""
        return with_strict_scalars(handler(source))

    def to_json_dict(self) -> dict[str, Any]:
        """The JSON shape: camelCase keys, no absent (``None``) fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
