"""What batches of intents and of results are made of: messages without the envelope that they share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from mafalda.contract.ids import Id
from mafalda.contract.messages.payload import Payload
from mafalda.media.model import Model

#: Messages in one batch.
MAX_BATCHED = 128


def _is_object(value: Any) -> Any:
    if not isinstance(value, dict | Payload):
        raise ValueError("an object is needed")
    return value


#: Data of a message inside a batch. It is read when it is needed (``contract.batches``), each message for itself, so
#: that one which cannot be read spoils no other.
Data = Annotated[Any, BeforeValidator(_is_object), WithJsonSchema({"type": "object"})]


class BatchedIntent(Model):
    """One intent of a batch."""

    id: Id = Field(description="As of a message: an intent that comes again has the same id, and is done once.")
    type: str = Field(max_length=128, description="mafalda.intent.{action}.v{version}.")
    data: Data = Field(repr=False, description="As of a message of this type.")


class BatchedResult(Model):
    """One result of a batch."""

    intent: str = Field(max_length=64, description="The action of the intent that it answers.")
    causationid: Id = Field(description="The id of the intent that it answers.")
    type: str = Field(max_length=128, description="mafalda.result.{action}.v{version}.")
    data: Data = Field(repr=False, description="As of a message of this type.")
