"""The envelope: what is written can be read, in any language's JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mafalda.contract.ids import derived_id
from mafalda.contract.messages import intents, results
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES, Message, decode, encode, peek_id
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.errors import MessageTooLarge
from mafalda.testing.builders import EXAMPLES, NOON, example, message

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
# What JSON can say and every JSON library says alike: orjson reads integers beyond 64 bits as floats.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("payload_type", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_what_is_written_is_read_again(payload_type: type[Payload]) -> None:
    original = message(EXAMPLES[payload_type])
    assert decode(encode(original)) == original
    assert type(decode(encode(original)).data) is payload_type


@pytest.mark.parametrize("payload_type", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_the_json_is_a_cloud_event(payload_type: type[Payload]) -> None:
    fields = orjson.loads(encode(message(EXAMPLES[payload_type])))
    assert fields["specversion"] == "1.0"
    assert fields["type"] == payload_type.type_name()
    assert fields["dataschema"] == payload_type.schema_uri()
    assert fields["datacontenttype"] == "application/json"
    assert fields["time"] == "2026-01-01T12:00:00Z"
    assert all(name.islower() and name.isalnum() for name in fields), "CloudEvents' attribute names"
    assert None not in fields.values()
    assert fields["data"] == EXAMPLES[payload_type].to_json_dict()


@given(ids, ids, ids, st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))])))
def test_attributes_survive(id_: str, correlation: str, causation: str, at: datetime) -> None:
    original = Message(
        id=id_,
        source="/client/ä",
        type="mafalda.intent.leave.v1",
        time=at,
        correlationid=correlation,
        causationid=causation,
        traceparent=f"00-{derived_id(id_)}-{derived_id(id_)[:16]}-01",
        data=intents.Leave(),
    )
    once = decode(encode(original))
    assert once == original
    assert decode(encode(once)) == original  # a time zone that came from JSON can be written too
    assert peek_id(encode(original)) == id_


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_application_data_is_carried_untouched(app_data: dict[str, Any]) -> None:
    original = message(intents.Join(app_data=app_data))
    read = decode(encode(original)).data
    assert isinstance(read, intents.Join)
    assert orjson.dumps(read.app_data) == orjson.dumps(app_data)


def test_unknown_attributes_and_fields_are_ignored() -> None:
    fields = orjson.loads(encode(message(intents.PauseProducer(producer="p"))))
    fields["partitionkey"] = "x"
    fields["data"]["later"] = {"a": 1}
    assert decode(orjson.dumps(fields)).data == intents.PauseProducer(producer="p")


def test_a_first_message_correlates_with_itself() -> None:
    first = message(intents.Leave(), id="first")
    second = message(results.Done(intent="leave", generation=1), cause=first)
    third = message(results.Done(intent="leave", generation=1), id="third", cause=second)
    assert first.correlation == second.correlation == third.correlation == "first"
    assert (second.causationid, third.causationid) == ("first", second.id)


def test_a_message_that_nobody_would_read_is_not_written() -> None:
    long = results.Rejected(intent="x" * MAX_MESSAGE_BYTES, error=example(results.Rejected).error)
    with pytest.raises(MessageTooLarge) as refused:
        encode(message(long, subject="mafalda.room.r.peer.p.result.x"))
    assert refused.value.details["limit_bytes"] == MAX_MESSAGE_BYTES
    assert refused.value.details["size_bytes"] > MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "a b"},
        {"id": ""},
        {"id": "a\n"},
        {"correlationid": "a.b"},
        {"traceparent": "00-xyz"},
        {"source": ""},
        {"time": datetime(2026, 1, 1)},  # noqa: DTZ001 - that it has no zone is the point
    ],
)
def test_an_envelope_cannot_be_made_wrong(wrong: dict[str, Any]) -> None:
    good = {"id": "a", "source": "/x", "type": "t", "time": NOON, "data": intents.Leave()}
    Message(**good)
    with pytest.raises(ValidationError):
        Message(**{**good, **wrong})
