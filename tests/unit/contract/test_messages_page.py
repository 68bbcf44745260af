"""What ``docs/messages.md`` says is what the contract does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import orjson
import pytest

from mafalda.contract.messages import intents
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES, decode, encode
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.errors import MalformedMessage, MessageTooLarge
from mafalda.testing.builders import message

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "messages.md").read_text(encoding="utf-8")


def claims(text: str) -> None:
    assert " ".join(text.split()) in " ".join(PAGE.split()), f"docs/messages.md does not say: {text}"


def join(**changed: object) -> bytes:
    fields = orjson.loads(encode(message(intents.Join())))
    return json.dumps(fields | changed).encode()


def test_the_greatest_size() -> None:
    claims(f"at most {MAX_MESSAGE_BYTES:,} bytes of JSON")
    smallest = len(join(source=""))
    assert decode(join(source="x", padding="y" * (MAX_MESSAGE_BYTES - smallest - 16)))
    with pytest.raises(MessageTooLarge):
        decode(join(source="x", padding="y" * MAX_MESSAGE_BYTES))


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda page: page.name)
def test_no_other_size_of_a_message_is_named(page: Path) -> None:
    sizes = re.findall(
        r"[Mm]essages? of at most ([0-9][0-9,]*\w*)|must itself be a message of at most (\S+)", page.read_text()
    )
    assert {number for found in sizes for number in found if number} <= {f"{MAX_MESSAGE_BYTES:,}"}


def test_null_and_unknown_fields() -> None:
    claims("A field that has no value is absent; `null` is refused. Unknown fields are to be ignored.")
    with pytest.raises(MalformedMessage, match="region: null"):
        decode(join(data={"region": None}))
    assert decode(join(data={"mood": "good"}, mood="good")).data == intents.Join()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('`"600000"`', {"transport": "t", "initialAvailableOutgoingBitrate": "600000"}),
        ("`true` for 1", {"transport": "t", "initialAvailableOutgoingBitrate": True}),
        ('`"yes"`', {"transport": "t", "enableTcp": "yes"}),
    ],
)
def test_what_is_no_number_and_no_boolean(text: str, data: dict[str, object]) -> None:
    claims(text)
    with pytest.raises(MalformedMessage, match="Input should be a valid"):
        decode(join(type="mafalda.intent.create-transport.v1", data=data))


def test_every_message_is_there_with_an_example_that_is_read() -> None:
    for payload in PAYLOADS.values():
        section = PAGE.split(f"\n### {payload.__name__}\n")[1].split("\n### ")[0]
        example = section.split("```json\n")[1].split("\n```")[0]
        assert payload.model_validate_json(example)
