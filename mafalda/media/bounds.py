"""Types that the media models share: integers with the ranges of the worker's fields, and the base class for values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from mafalda.media.model import Model
from mafalda.media.strict import whole_number


class Value(Model):
    """A value about media. A field that is ``null`` is a field that is not there."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


_WHOLE = BeforeValidator(whole_number)

Flag = StrictBool
Uint8 = Annotated[int, Field(strict=True, ge=0, le=2**8 - 1), _WHOLE]
Uint16 = Annotated[int, Field(strict=True, ge=0, le=2**16 - 1), _WHOLE]
Uint32 = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1), _WHOLE]
Port = Uint16
Ssrc = Annotated[int, Field(strict=True, ge=1, le=2**32 - 1), _WHOLE]
ClockRate = Annotated[int, Field(strict=True, ge=1, le=2**32 - 1), _WHOLE]
PayloadType = Annotated[int, Field(strict=True, ge=0, le=127), _WHOLE]
ExtensionId = Annotated[int, Field(strict=True, ge=1, le=255), _WHOLE]
Channels = Annotated[int, Field(strict=True, ge=1, le=255), _WHOLE]
StreamId = Annotated[int, Field(strict=True, ge=0, le=65534), _WHOLE]
Bitrate = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1), _WHOLE]
