"""A message of an older version lacks the fields that were added since: each of them is optional."""

from __future__ import annotations

import orjson
import pytest

from mafalda.contract.messages.envelope import decode, encode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.schema.json_schema import payload_schema
from mafalda.testing.builders import EXAMPLES, message


@pytest.mark.parametrize("payload", EXAMPLES.values(), ids=lambda payload: payload.type_name())
def test_a_message_with_its_required_fields_alone_is_read(payload: Payload) -> None:
    fields = orjson.loads(encode(message(payload)))
    required = payload_schema(type(payload)).get("required", [])
    fields["data"] = {name: value for name, value in fields["data"].items() if name in required}
    read = decode(orjson.dumps(fields)).data
    assert type(read) is type(payload)
    assert all(getattr(read, name) == getattr(payload, name) for name in read.model_fields_set)
