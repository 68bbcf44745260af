"""The envelope of every message: a CloudEvents 1.0 JSON event in structured mode.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from mafalda.contract.ids import ID_PATTERN
from mafalda.contract.messages.nulls import Location, null_fields
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.errors import MalformedMessage, MessageTooLarge, UnknownType, UnknownVersion

CONTENT_TYPE = "application/cloudevents+json"

#: An intent with the RTP capabilities of a browser is about 10 KB. The largest there is: a data channel message of
#: mediasoup's default limit (256 KiB) in base64, on its way from or to an application that sends directly.
MAX_MESSAGE_BYTES = 512 * 1024

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPE = re.compile(r"mafalda\.(?P<stem>[a-z]+\.[a-z-]+)\.v(?P<version>[0-9]{1,4})")
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_RFC_3339 = re.compile(_TIME)
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,32}")
_STEMS = {type_name.rsplit(".v", 1)[0] for type_name in PAYLOADS}


_NOTHING: Mapping[str, Any] = MappingProxyType({})

MessageId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
TraceParent = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


def _is_rfc_3339(value: Any) -> Any:
    """Refuse other ways to write a time, such as a number: the JSON Schema does not have them."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("a time as in RFC 3339, with its offset, such as 2026-01-01T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), Field(json_schema_extra={"pattern": f"^{_TIME}$"})]


class Message(BaseModel):
    """One message: CloudEvents' attributes, our three extensions, and the payload as ``data``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: MessageId = Field(description="A message that is sent again has the same id, and is stored once.")
    source: str = Field(min_length=1, max_length=512, description="The sender: a URI reference.")
    type: str = Field(description="mafalda.{kind}.{action}.v{version}: which message this is.")
    subject: str | None = Field(None, max_length=512, description="The NATS subject it was published on.")
    time: Time = Field(description="RFC 3339, with its offset.")
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = Field(None, description="The $id of the data's JSON Schema.")
    correlationid: MessageId | None = Field(None, description="Shared by all that followed from one first message.")
    causationid: MessageId | None = Field(None, description="Id of the message that this one answers.")
    traceparent: TraceParent | None = Field(None, description="W3C Trace Context.")
    data: Payload

    @property
    def correlation(self) -> str:
        """The correlation id; a first message correlates with itself."""
        return self.correlationid or self.id


_ATTRIBUTES = tuple(name for name in Message.model_fields if name != "data")


def encode(message: Message) -> bytes:
    """The JSON of a message.

    Raises:
        MessageTooLarge: It is over ``MAX_MESSAGE_BYTES``; nobody would read it.
    """
    payload = message.data
    fields = {name: value for name in _ATTRIBUTES if (value := getattr(message, name)) is not None}
    # The payload's JSON comes out of pydantic as it is: a dict in between costs more than both together.
    fields["data"] = orjson.Fragment(payload.__pydantic_serializer__.to_json(payload, by_alias=True, exclude_none=True))
    raw = orjson.dumps(fields, option=orjson.OPT_UTC_Z)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge("message is too large", size_bytes=len(raw), limit_bytes=MAX_MESSAGE_BYTES)
    return raw


def decode(raw: bytes, instead: Mapping[str, Any] = _NOTHING) -> Message:
    """Read and validate a message.

    Args:
        raw: The CloudEvent as JSON.
        instead: Values for fields of the data that the caller does not use: what the message has there is not read.

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
    if "specversion" not in fields:
        raise MalformedMessage("specversion: Field required", type=fields["type"])
    if b"null" in raw:
        _refuse_nulls(payload_type, fields)
    try:
        if instead and isinstance(fields.get("data"), dict):
            fields["data"] |= instead
        # By their names in JSON alone: the schemas do not have Python's.
        fields["data"] = payload_type.model_validate(fields.get("data"), by_alias=True, by_name=False)
        return Message.model_validate(fields)  # takes the payload as it is, without validating it again
    except ValidationError as error:
        raise MalformedMessage(_explain(error), type=fields["type"]) from None


def read_payload(type_name: str, data: Any) -> Payload:
    """Read and validate the data of a message without an envelope of its own.

    Raises:
        MalformedMessage: It does not fit its type.
        UnknownType: No message of Mafalda has this type.
        UnknownVersion: The type exists, in another version.
    """
    payload_type = _payload_type(type_name)
    if found := list(islice(null_fields(payload_type, data), 5)):
        problem = "null; leave out a field that has no value"
        raise MalformedMessage("; ".join(f"{_where(place)}: {problem}" for place in found), type=type_name)
    try:
        return payload_type.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise MalformedMessage(_explain(error), type=type_name) from None


def peek_id(raw: bytes) -> str | None:
    """The id of a message that may be otherwise unreadable, so that its sender can be answered."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) and _MESSAGE_ID.fullmatch(found) else None


def _payload_type(name: Any) -> type[Payload]:
    if not isinstance(name, str):
        raise MalformedMessage("no CloudEvents type")
    if known := PAYLOADS.get(name):
        return known
    match = _TYPE.fullmatch(name)
    if match and f"mafalda.{match['stem']}" in _STEMS:
        raise UnknownVersion("unknown version of a known type", type=name[:120])
    raise UnknownType("unknown type", type=name[:120])


def _refuse_nulls(payload_type: type[Payload], fields: dict[str, Any]) -> None:
    found: list[Location] = [(name,) for name in _ATTRIBUTES if name in fields and fields[name] is None]
    found += islice(null_fields(payload_type, fields.get("data")), 5)
    if found:
        problem = "null; leave out a field that has no value"
        raise MalformedMessage("; ".join(f"{_where(place)}: {problem}" for place in found[:5]), type=fields["type"])


def _explain(error: ValidationError) -> str:
    """The first problems, by field; never the input, which may hold a secret or be as long as a message."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{_where(problem['loc'])}: {problem['msg'][:200]}" for problem in problems)


def _where(location: tuple[int | str, ...]) -> str:
    """The field's path. A key that is not one of ours (a codec parameter's name) is the sender's own text."""
    return ".".join(str(part) if _FIELD.fullmatch(str(part)) else "?" for part in location[:12]) or "data"
