"""Inside a version, messages only grow by optional fields. And the comparison that says so can say no."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mafalda.contract.messages import events, intents
from mafalda.contract.schema.json_schema import payload_schema, schemas
from mafalda.testing.compatibility import breaking_changes, schema_changes

RELEASED = Path(__file__).parents[3] / "schemas" / "released"

Change = Callable[[dict[str, Any]], object]


def test_the_present_schemas_break_no_release() -> None:
    assert RELEASED.is_dir()
    for release in sorted(RELEASED.iterdir()):
        if release.is_dir():
            old = {path.name: json.loads(path.read_text()) for path in release.glob("*.json")}
            assert old, f"{release.name} holds no schemas"
            assert breaking_changes(old, schemas()) == [], f"since {release.name}"


def changed(change: Change) -> list[str]:
    """What the comparison says of a changed ``Consume`` schema."""
    old = payload_schema(intents.Consume)
    new = copy.deepcopy(old)
    change(new)
    assert new != old, "the test changes nothing"
    return schema_changes(old, new)


def optional_field(schema: dict[str, Any]) -> None:
    schema["properties"]["language"] = {"type": "string"}


def optional_field_inside(schema: dict[str, Any]) -> None:
    schema["$defs"]["RtpCodecCapability"]["properties"]["hardware"] = {"default": False, "type": "boolean"}


def other_words(schema: dict[str, Any]) -> None:
    schema["description"] = "Consume a producer."
    schema["properties"]["paused"]["description"] = "Whether to start paused."
    schema["$defs"]["RtpCapabilities"]["title"] = "Capabilities"


def renamed_definition(schema: dict[str, Any]) -> None:
    """A Python class has another name; on the wire nothing is different."""
    text = json.dumps(schema).replace("RtpCapabilities", "Capabilities")
    schema.clear()
    schema.update(json.loads(text))


def unused_definition(schema: dict[str, Any]) -> None:
    schema["$defs"]["Unused"] = {"type": "object"}


@pytest.mark.parametrize(
    "change", [optional_field, optional_field_inside, other_words, renamed_definition, unused_definition]
)
def test_what_may_change(change: Change) -> None:
    assert changed(change) == []


def test_a_new_message_breaks_nothing() -> None:
    old = schemas()
    new = schemas() | {"intent.wave.v1.json": {"type": "object"}}
    assert breaking_changes(old, new) == []


BREAKING: dict[str, tuple[Change, str]] = {
    "a field is gone": (lambda s: s["properties"].pop("paused"), "data.paused: is gone"),
    "a field has another name": (
        lambda s: s["properties"].update(pausedAtFirst=s["properties"].pop("paused")),
        "data.paused: is gone",
    ),
    "a new field is required": (
        lambda s: (s["properties"].update(language={"type": "string"}), s["required"].append("language")),
        "data.language: must be there now",
    ),
    "an optional field is required": (lambda s: s["required"].append("paused"), "data.paused: must be there now"),
    "a required field is optional": (lambda s: s["required"].remove("consumer"), "data.consumer: may be absent now"),
    "another type": (
        lambda s: s["properties"]["paused"].update(type="string"),
        "data.paused: type was 'boolean', is 'string'",
    ),
    "a narrower pattern": (
        lambda s: s["properties"]["consumer"].update(pattern="^[a-z]+$"),
        "data.consumer: pattern was",
    ),
    "another default": (lambda s: s["properties"]["paused"].update(default=False), "data.paused: default was True"),
    "a narrower bound, inside": (
        lambda s: s["$defs"]["RtpCodecCapability"]["properties"]["clockRate"].update(maximum=48000),
        "data.rtpCapabilities.codecs[].clockRate: maximum was",
    ),
    "a field inside is gone": (
        lambda s: s["$defs"]["RtcpFeedback"]["properties"].pop("parameter"),
        "data.rtpCapabilities.codecs[].rtcpFeedback[].parameter: is gone",
    ),
    "one word less": (
        lambda s: s["$defs"]["RtpHeaderExtension"]["properties"]["direction"]["enum"].pop(),
        "data.rtpCapabilities.headerExtensions[].direction: enum was",
    ),
    "one word more": (
        lambda s: s["$defs"]["RtpHeaderExtension"]["properties"]["direction"]["enum"].append("stopped"),
        "data.rtpCapabilities.headerExtensions[].direction: enum was",
    ),
    "one choice less": (
        lambda s: s["$defs"]["RtpCodecCapability"]["properties"]["parameters"]["additionalProperties"]["anyOf"].pop(),
        "data.rtpCapabilities.codecs[].parameters[]: anyOf had 5 choices, has 4",
    ),
    "another choice": (
        lambda s: s["$defs"]["RtpCodecCapability"]["properties"]["parameters"]["additionalProperties"]["anyOf"][
            0
        ].update(maxLength=1),
        "data.rtpCapabilities.codecs[].parameters[]<0>: maxLength was 4096, is 1",
    ),
    "no other fields are welcome": (
        lambda s: s.update(additionalProperties=False),
        "data: additionalProperties came or went",
    ),
    "application data is closed": (
        lambda s: s["properties"]["appData"].update(additionalProperties=False),
        "data.appData[]: True became False",
    ),
    "another $id": (lambda s: s.update({"$id": "urn:other"}), "data: $id was"),
}


@pytest.mark.parametrize("name", BREAKING)
def test_what_may_not_change(name: str) -> None:
    change, complaint = BREAKING[name]
    found = changed(change)
    assert any(change.startswith(complaint) for change in found), found


def test_a_message_that_is_gone() -> None:
    old, new = schemas(), schemas()
    del new["event.peer-joined.v1.json"]
    assert breaking_changes(old, new) == ["event.peer-joined.v1.json: is gone"]


def test_a_change_is_found_in_its_file() -> None:
    old, new = schemas(), schemas()
    new["event.peer-left.v1.json"] = payload_schema(events.PeerLeft) | {"required": ["peer"]}
    assert breaking_changes(old, new) == ["event.peer-left.v1.json: data.generation: may be absent now"]
