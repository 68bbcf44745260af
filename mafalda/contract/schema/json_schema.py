"""Build the JSON Schemas (draft 2020-12) of the data of each message and of the envelope.

``tools/generate_schemas.py`` writes them. Pure.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from mafalda.contract.grants import Grants
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES, Message
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE_FILE = "cloudevents.v1.json"
ENVELOPE_ID = "urn:mafalda:schema:cloudevents.v1"
GRANTS_FILE = "grants.v1.json"
GRANTS_ID = "urn:mafalda:schema:grants.v1"


def schema_file(payload: type[Payload]) -> str:
    """The name of a payload's schema file: ``{kind}.{action}.v{version}.json``."""
    return f"{payload.kind}.{payload.action}.v{payload.version}.json"


def payload_schema(payload: type[Payload]) -> Schema:
    """The JSON Schema of one message's ``data``, as a reader accepts it."""
    return {"$schema": DIALECT, "$id": payload.schema_uri(), **_schema_of(payload)}


def envelope_schema() -> Schema:
    """The JSON Schema of the CloudEvents envelope; ``data`` is any object here, ``type`` says which."""
    schema = _schema_of(Message)
    properties = schema["properties"]
    properties["data"] = {"type": "object", "description": "The payload; 'dataschema' names its schema."}
    properties["type"]["pattern"] = r"^mafalda\.[a-z]+\.[a-z-]+\.v[0-9]+$"
    # In Python it has a default; on the wire it must be there.
    required = ["specversion", *schema["required"]]
    schema["required"] = [name for name in properties if name in required]
    schema["title"] = "CloudEvents envelope"
    schema["description"] = (
        "A CloudEvents 1.0 JSON event (structured mode) with the extensions correlationid, causationid and "
        f"traceparent. At most {MAX_MESSAGE_BYTES} bytes. Unknown attributes are ignored."
    )
    schema.pop("$defs", None)
    return {"$schema": DIALECT, "$id": ENVELOPE_ID, **schema}


def grants_schema() -> Schema:
    """The JSON Schema of the claim ``mafalda`` in a participant's token."""
    return {"$schema": DIALECT, "$id": GRANTS_ID, **_schema_of(Grants)}


def schemas() -> dict[str, Schema]:
    """Every schema by its file name."""
    return {ENVELOPE_FILE: envelope_schema(), GRANTS_FILE: grants_schema()} | {
        schema_file(payload): payload_schema(payload) for payload in PAYLOADS.values()
    }


def _schema_of(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    _tidy(schema)
    for definition in schema.get("$defs", {}).values():
        _tidy(definition)
    return schema


def _tidy(schema: Schema) -> None:
    """What pydantic writes for Python's readers, for everyone's: no made-up titles, no ``null`` for what is absent."""
    properties = schema.get("properties", {})
    for field in properties.values():
        field.pop("title", None)
        _say_absent(field)
    for part in (schema, *properties.values()):
        if "description" in part:
            text = " ".join(part["description"].replace("``", "").split())
            part["description"] = re.sub(r"(?<![^.] )\bNone\b", "Absent", text).replace("None", "absent")


def _say_absent(field: Schema) -> None:
    """A field that may be left out is left out: no Mafalda component writes ``null`` for it."""
    if "default" in field and field["default"] is None:
        del field["default"]
        field["anyOf"] = [choice for choice in field["anyOf"] if choice != {"type": "null"}]
        if len(field["anyOf"]) == 1:
            field |= field.pop("anyOf")[0]
