"""What cannot be read is refused by name, and what was refused is never repeated."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.contract.messages import intents, queries
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES, decode, encode, peek_id
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import MAX_APP_DATA_BYTES, MAX_APP_DATA_DEPTH
from mafalda.errors import BadInput, MalformedMessage, MessageTooLarge, UnknownType, UnknownVersion
from mafalda.testing.builders import EXAMPLES, example, message

SECRET = "correct-horse-battery-staple"


def altered(payload: Any = None, **changes: Any) -> bytes:
    """A good message with attributes changed; ``...`` takes one away."""
    fields = orjson.loads(encode(message(payload or intents.PauseProducer(producer="p"))))
    fields |= changes
    return orjson.dumps({name: value for name, value in fields.items() if value is not ...})


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"{}", "no CloudEvents type"),
        (altered(type=...), "no CloudEvents type"),
        (altered(type=5), "no CloudEvents type"),
        (altered(type=["mafalda.intent.leave.v1"]), "no CloudEvents type"),
        (altered(specversion="0.3"), "specversion"),
        (altered(specversion=1.0), "specversion"),
        (altered(id=...), "id: "),
        (altered(id=7), "id: "),
        (altered(id=""), "id: "),
        (altered(id="x" * 65), "id: "),
        (altered(id="a.b"), "id: "),
        (altered(id="a b"), "id: "),
        (altered(id="a\r\nNats-Msg-Id: b"), "id: "),
        (altered(id="ä"), "id: "),
        (altered(source=...), "source: "),
        (altered(time=...), "time: "),
        (altered(time="yesterday"), "time: "),
        (altered(time="2026-01-01T12:00:00"), "time: "),
        (altered(datacontenttype="text/xml"), "datacontenttype: "),
        (altered(correlationid="*"), "correlationid: "),
        (altered(causationid=">"), "causationid: "),
        (altered(traceparent="00-0-0-00"), "traceparent: "),
        (altered(data=...), "data: "),
        (altered(data=None), "data: "),
        (altered(data=[]), "data: "),
        (altered(data="{}"), "data: "),
        (altered(data={}), "producer: "),
        (altered(data={"producer": "a.b"}), "producer: "),
        (altered(data={"producer": "a\n"}), "producer: "),
        (altered(data={"producer": {"$gt": ""}}), "producer: "),
    ],
)
def test_malformed(raw: bytes, problem: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        decode(raw)
    assert problem in refused.value.reason


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("mafalda.intent.pause-producer.v2", UnknownVersion),
        ("mafalda.intent.pause-producer.v0", UnknownVersion),
        ("mafalda.intent.pause-producer.v99999", UnknownType),
        ("mafalda.intent.pause-producer", UnknownType),
        ("mafalda.intent.fly.v1", UnknownType),
        ("mafalda.event.pause-producer.v1", UnknownType),
        ("com.example.thing", UnknownType),
        ("", UnknownType),
        (" mafalda.intent.leave.v1", UnknownType),
        ("mafalda.intent.leave.v1\n", UnknownType),
    ],
)
def test_types_that_do_not_exist(name: str, error: type[BadInput]) -> None:
    with pytest.raises(error) as refused:
        decode(altered(type=name))
    assert type(refused.value) is error
    assert refused.value.details == {"type": name}


def test_an_endless_type_is_cut() -> None:
    with pytest.raises(UnknownType) as refused:
        decode(altered(type="x" * 10_000))
    assert len(refused.value.details["type"]) == 120


def test_oversize_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MessageTooLarge) as refused:
        decode(b"{" * (MAX_MESSAGE_BYTES + 1))
    assert refused.value.details == {"size_bytes": MAX_MESSAGE_BYTES + 1, "limit_bytes": MAX_MESSAGE_BYTES}


def test_a_message_of_the_greatest_size_is_read() -> None:
    raw = altered(padding="")
    raw = altered(padding="x" * (MAX_MESSAGE_BYTES - len(raw)))
    assert len(raw) == MAX_MESSAGE_BYTES
    assert decode(raw).data == intents.PauseProducer(producer="p")


@pytest.mark.parametrize(
    "raw",
    [
        altered(id=f"{SECRET} "),
        altered(time=SECRET),
        altered(source=[SECRET]),
        altered(specversion=SECRET),
        altered(datacontenttype=SECRET),
        altered(traceparent=SECRET),
        altered(data=SECRET),
        altered(data={"producer": f"{SECRET}!"}),
        altered(example(intents.ConnectTransport), data={"transport": "t", "dtlsParameters": {"role": SECRET}}),
        altered(
            example(intents.Produce),
            data={"producer": "p", "rtpParameters": {"codecs": [{"parameters": {SECRET * 5: [SECRET]}}]}},
        ),
        altered(
            example(queries.ConnectPipe),
            data={
                **example(queries.ConnectPipe).to_json_dict(),
                "end": {
                    "ip": "192.0.2.1",
                    "port": 1,
                    "srtpParameters": {
                        "cryptoSuite": "AEAD_AES_256_GCM",
                        "keyBase64": base64.b64encode(SECRET.encode()).decode(),
                    },
                },
            },
        ),
        altered(example(intents.Join), data={"appData": {"password": SECRET, "long": "x" * MAX_APP_DATA_BYTES}}),
    ],
)
def test_what_was_refused_is_not_repeated(raw: bytes) -> None:
    with pytest.raises(MalformedMessage) as refused:
        decode(raw)
    shown = f"{refused.value} {refused.value!r} {ErrorInfo.of(refused.value)!r} {refused.value.__cause__!r}"
    assert SECRET not in shown
    assert base64.b64encode(SECRET.encode()).decode() not in shown
    assert refused.value.__suppress_context__, "a traceback would show the validator's own error"


def test_an_error_is_short_whatever_was_sent() -> None:
    parameters: dict[str, list[str]] = {f"{'k' * 200}{number}": [] for number in range(50)}
    codec = {"mimeType": "audio/opus", "clockRate": 48000, "payloadType": 1, "parameters": parameters}
    data = {"producer": "p", "transport": "t", "mediaKind": "audio", "rtpParameters": {"codecs": [codec] * 10}}
    with pytest.raises(MalformedMessage) as refused:
        decode(altered(example(intents.Produce), data=data))
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("depth", [MAX_APP_DATA_DEPTH, 300, 900])
def test_application_data_that_could_not_be_written_again_is_refused(opening: str, depth: int) -> None:
    closing = "}" if opening[0] == "{" else "]"
    deep = f'{{"x": {opening * depth}1{closing * depth}}}'
    raw = altered(intents.Join(), data={"appData": {}}).replace(b'"appData":{}', b'"appData":' + deep.encode())
    with pytest.raises(MalformedMessage, match=r"appData: .*nested deeper"):
        decode(raw)


def test_application_data_that_would_burst_events_is_refused() -> None:
    with pytest.raises(MalformedMessage, match=r"appData: .*bytes of JSON"):
        decode(altered(intents.Join(), data={"appData": {"x": "y" * MAX_APP_DATA_BYTES}}))
    decode(altered(intents.Join(), data={"appData": {"x": "y" * (MAX_APP_DATA_BYTES - 10)}}))


def test_application_data_that_is_not_json_is_refused_at_its_source() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        intents.Join(app_data={"x": object()})


@given(st.binary(max_size=300))
def test_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(BadInput):
        decode(raw)
    peek_id(raw)


@given(
    st.sampled_from(sorted(EXAMPLES, key=lambda known: known.type_name())),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
def test_data_of_any_shape_is_read_or_refused(payload_type: type[Any], junk: Any, data: st.DataObject) -> None:
    good = EXAMPLES[payload_type].to_json_dict()
    names = sorted(good) or ["x"]
    fields = {**good, data.draw(st.sampled_from(names)): junk}
    raw = json.dumps(orjson.loads(altered(EXAMPLES[payload_type])) | {"data": fields}).encode()
    try:
        read = decode(raw)
    except MalformedMessage:
        return
    assert decode(encode(read)) == read  # what is accepted can be said again


# --- peeking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"id": "abc"}', "abc"),
        (b'{"id": "abc", "type": [], "data": {"x": ' + b"1" * 40 + b"}}", "abc"),
        (b'{"id": "abc", "data": {"x": ' + b"1" * 400 + b"}}", None),
        (b'{"id": "a.b"}', None),
        (b'{"id": "abc\\n"}', None),
        (b'{"id": ""}', None),
        (b'{"id": 5}', None),
        (b'{"id": ["abc"]}', None),
        (b'{"id": {"id": "abc"}}', None),
        (b"{}", None),
        (b'["id"]', None),
        (b'"id"', None),
        (b"5", None),
        (b"null", None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 5000, None),
        (b'{"a":' * 5000, None),
        (b'{"id": "' + b"x" * 65 + b'"}', None),
        (b'{"id": "' + b"x" * (2 * MAX_MESSAGE_BYTES) + b'"}', None),
        (b'{"id": "big", "x": "' + b"x" * (2 * MAX_MESSAGE_BYTES) + b'"}', "big"),
    ],
)
def test_the_id_of_an_unreadable_message(raw: bytes, found: str | None) -> None:
    assert peek_id(raw) == found
