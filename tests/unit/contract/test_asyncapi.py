"""The AsyncAPI document: complete, without loose ends, and true to the subjects.

That it is AsyncAPI 3.1 is checked with AsyncAPI's own parser by ``make test-languages``; what that parser would stumble
over first (references, keys, the shape of each object) is checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from mafalda.contract.channels import CHANNELS
from mafalda.contract.ids import ID_PATTERN
from mafalda.contract.messages.envelope import CONTENT_TYPE, decode
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.contract.subjects import parse

SCHEMAS = Path(__file__).parents[3] / "schemas"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """As it is committed."""
    loaded = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    if isinstance(part, list):
        for value in part:
            yield from references(value)


def look_up(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def test_no_reference_is_loose(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > len(PAYLOADS)
    for reference in found:
        if reference.startswith("#/"):
            assert look_up(document, reference)
        else:
            assert (SCHEMAS / reference).is_file(), reference


def test_the_frame(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.1.0"
    assert set(document) == {
        "asyncapi",
        "id",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    }
    assert {"title", "version"} <= set(document["info"])
    assert document["defaultContentType"] == CONTENT_TYPE
    assert document["servers"]["local"]["protocol"] == "nats"
    for part in ("channels", "operations"):
        assert all(re.fullmatch(r"[A-Za-z0-9_\-]+", name) for name in document[part])
    assert all(re.fullmatch(r"[\w.\-]+", name) for name in document["components"]["messages"])


def test_channels(document: dict[str, Any]) -> None:
    channels = document["channels"]
    for channel in CHANNELS:
        described = channels[channel.name]
        assert [entry["$ref"].rsplit("/", 1)[-1] for entry in described["messages"].values()] == list(
            described["messages"]
        )
        assert len(described["messages"]) == len(channel.payloads)
        assert "nats" in described["bindings"]
        assert (f"{channel.name}Live" in channels) is channel.stored
        if channel.name == "replies":
            assert described["address"] is None, "it is the asker's inbox"
            continue
        assert described["address"] == channel.pattern
        assert set(re.findall(r"{(\w+)}", described["address"])) == set(described["parameters"])
        if channel.stored:
            live = channels[f"{channel.name}Live"]
            assert live["address"] == f"live.{channel.pattern}"
            assert live["messages"] == described["messages"]
            assert live["parameters"] == described["parameters"]


def test_parameters_are_ids(document: dict[str, Any]) -> None:
    parameters = document["components"]["parameters"]
    assert set(parameters) == {"allocator", "room", "peer", "server"}
    for parameter in parameters.values():
        assert parameter["x-pattern"] == ID_PATTERN
        assert ID_PATTERN in parameter["description"]


def test_operations(document: dict[str, Any]) -> None:
    roles: dict[str, set[str]] = {}
    for name, operation in document["operations"].items():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"].rsplit("/", 1)[-1]
        roles.setdefault(f"{operation['action']} {channel}", set()).add(operation["tags"][0]["name"])
        assert name.startswith(operation["tags"][0]["name"])
    assert roles["send intents"] == {"client"}
    assert roles["send commands"] == {"allocator"}
    assert roles["receive commandsLive"] == {"agent", "allocator"}
    assert roles["send loads"] == {"agent"}
    stored = {channel.name for channel in CHANNELS if channel.stored}
    heard_where_said = {name.removeprefix("receive ") for name in roles if name.startswith("receive ")} & stored
    assert heard_where_said == set(), "the plain subject also carries what the stream refused"
    queries = document["operations"]["clientSendsQueries"]
    assert queries["reply"]["channel"] == {"$ref": "#/channels/replies"}
    intents = document["operations"]["clientSendsIntents"]
    assert intents["reply"]["address"]["location"] == "$message.header#/Mafalda-Reply-To"


def test_messages(document: dict[str, Any]) -> None:
    """Each example is an example of its own payload schema, can be decoded, and stands on a subject of its channel."""
    resources = [Resource.from_contents(json.loads(path.read_text())) for path in SCHEMAS.glob("*.json")]
    by_file = [(f"./{str(resource.id()).rsplit(':', 1)[-1]}.json", resource) for resource in resources]
    registry: Registry[Any] = Registry().with_resources(by_file)
    messages = document["components"]["messages"]
    assert {message["name"] for message in messages.values()} == set(PAYLOADS)
    for key, message in messages.items():
        (example,) = [entry["payload"] for entry in message["examples"]]
        assert f"mafalda.{key}" == message["name"] == example["type"]
        validator = Draft202012Validator(message["payload"], registry=registry)
        assert [error.message for error in validator.iter_errors(example)] == []
        assert list(validator.iter_errors(example | {"type": "mafalda.intent.other.v1"})), "the type is fixed"
        assert list(validator.iter_errors(example | {"data": []})), "the data is looked at"
        assert type(decode(json.dumps(example).encode()).data) is PAYLOADS[message["name"]]
        address = parse(example["subject"])
        assert address is not None or example["subject"].startswith("_INBOX."), example["subject"]
