"""The envelope: a CloudEvents 1.0 JSON event (structured mode), so that any language can speak.

What does not belong here: NATS headers and delivery (``mafalda.bus``).
Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mafalda.contract.errors import MalformedMessage, MessageTooLarge, UnknownType, UnknownVersion
from mafalda.contract.payload import Payload
from mafalda.contract.registry import PAYLOADS

CONTENT_TYPE = "application/cloudevents+json"

#: An intent with the RTP capabilities of a browser is about 10 KB; a peer has no need for more than this.
MAX_MESSAGE_BYTES = 256 * 1024

_TYPE = re.compile(r"mafalda\.(?P<stem>[a-z]+\.[a-z-]+)\.v(?P<version>[0-9]{1,4})")
_STEMS = {type_name.rsplit(".v", 1)[0] for type_name in PAYLOADS}


class Message(BaseModel):
    """One message: CloudEvents' attributes, our three extensions, and the payload as ``data``.

    ``correlationid`` is shared by all that followed from one first message; ``causationid`` is the
    message that this one answers; ``traceparent`` is W3C Trace Context's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    source: str = Field(min_length=1, max_length=512)
    type: str
    subject: str | None = Field(None, max_length=512)
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = None
    correlationid: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    causationid: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    traceparent: str | None = Field(None, pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
    data: Payload

    @property
    def correlation(self) -> str:
        """The correlation id; a first message correlates with itself."""
        return self.correlationid or self.id


def encode(message: Message) -> bytes:
    """The JSON of a message.

    Raises:
        MessageTooLarge: It is over ``MAX_MESSAGE_BYTES``; nobody would read it.
    """
    fields: dict[str, Any] = message.model_dump(mode="json", exclude_none=True, exclude={"data"})
    fields["data"] = message.data.to_json_dict()
    raw = orjson.dumps(fields)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge("message is too large", size_bytes=len(raw), limit_bytes=MAX_MESSAGE_BYTES)
    return raw


def decode(raw: bytes) -> Message:
    """Read and validate a message.

    Raises:
        MessageTooLarge: Over ``MAX_MESSAGE_BYTES``.
        MalformedMessage: Not JSON, not a CloudEvent, or its data does not fit its type.
        UnknownType: No message of Mafalda has this type.
        UnknownVersion: The type exists, in another version.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge("message is too large", size_bytes=len(raw), limit_bytes=MAX_MESSAGE_BYTES)
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise MalformedMessage("not a JSON object")
    payload_type = _payload_type(fields.get("type"))
    try:
        data = payload_type.model_validate(fields.get("data"))
        return Message.model_validate({**fields, "data": data})
    except ValidationError as error:
        raise MalformedMessage(_explain(error), type=fields["type"]) from None


def peek_id(raw: bytes) -> str | None:
    """The id of a message that may be otherwise unreadable, so that its sender can be answered."""
    try:
        found = orjson.loads(raw)["id"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return None
    return found if isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found) else None


def _payload_type(name: Any) -> type[Payload]:
    if not isinstance(name, str):
        raise MalformedMessage("no CloudEvents type")
    if known := PAYLOADS.get(name):
        return known
    match = _TYPE.fullmatch(name)
    if match and f"mafalda.{match['stem']}" in _STEMS:
        raise UnknownVersion("unknown version of a known type", type=name[:120])
    raise UnknownType("unknown type", type=name[:120])


def _explain(error: ValidationError) -> str:
    """The first problems, by field; never the input, which may hold a secret."""
    problems = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'data'}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)[:5]
    ]
    return "; ".join(problems)
