"""``docs/protocol.md`` says of every intent what it leads to, and of every error what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mafalda.contract.channels import RESULT_CHANNEL
from mafalda.contract.error_codes import ERROR_HELP
from mafalda.contract.messages import events, results
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.intents import INTENTS
from mafalda.contract.messages.queries import QUERIES
from mafalda.contract.outcomes import OUTCOMES, PLACE_ERRORS, READING_ERRORS
from mafalda.contract.reading import read_message
from mafalda.contract.subjects import parse
from mafalda.errors import ERRORS_BY_CODE
from mafalda.testing.wire_session import ROOM, Step, load, missing_fields

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
STEPS = load(ROOT / "tests" / "replays" / "v1-session.json")
SENT = [step for step in STEPS if step.sent]


def test_every_error_has_a_cause_and_a_cure() -> None:
    assert set(ERROR_HELP) == set(ERRORS_BY_CODE)
    for code, entry in ERROR_HELP.items():
        assert f"| `{code}` | {entry.cause} | {entry.cure} |" in PAGE
        assert entry.cause[-1] == entry.cure[-1] == "."


def test_every_intent_and_query_has_an_outcome() -> None:
    assert set(OUTCOMES) == {*INTENTS, *QUERIES}
    for payload, outcome in OUTCOMES.items():
        assert f"| `{payload.kind}.{payload.action}` | `{outcome.answer.__name__}`" in PAGE
        assert set(outcome.errors).isdisjoint(READING_ERRORS)


def test_every_result_answers_something() -> None:
    answers = {outcome.answer for outcome in OUTCOMES.values()} | {results.Rejected}
    assert set(RESULT_CHANNEL.payloads) <= answers


@pytest.mark.parametrize("step", SENT, ids=lambda step: f"{step.sent.by}-{step.name}")
def test_what_clients_of_version_1_send_is_read(step: Step) -> None:
    assert step.sent is not None
    _, message = read_message(step.sent.subject, json.dumps(step.sent.message).encode())
    assert message.type.endswith(".v1")


@pytest.mark.parametrize("step", SENT, ids=lambda step: f"{step.sent.by}-{step.name}")
def test_what_followed_is_in_the_table(step: Step) -> None:
    assert step.sent is not None
    asked = decode(json.dumps(step.sent.message).encode()).data
    outcome = OUTCOMES[type(asked)]
    assert step.received, "every step is answered"
    for seen in step.received:
        data = decode(json.dumps(seen.message).encode()).data
        if isinstance(data, results.Rejected):
            codes = {error.code for error in (*outcome.errors, *READING_ERRORS, *PLACE_ERRORS)}
            assert data.error.code in codes
        elif isinstance(data, events.Event):
            address = parse(seen.subject)
            assert address
            assert type(data) in (outcome.peer_events if address.peer else outcome.room_events)
        else:
            assert type(data) is outcome.answer
            assert outcome.private or not seen.subject.startswith("_INBOX")


def test_the_recorded_answers_name_their_intents() -> None:
    """As messages.md says: by the causation id, but for the join's result, which has the correlation id."""
    for step in SENT:
        assert step.sent
        answers = [
            seen for seen in step.received if seen.message["type"].startswith(("mafalda.result", "mafalda.answer"))
        ]
        assert answers
        for answer in answers:
            name = "correlationid" if answer.message["type"] == results.JoinResult.type_name() else "causationid"
            assert answer.message[name] == step.sent.message["id"]


def test_no_secret_is_recorded() -> None:
    secrets = [
        seen.message["data"]["iceParameters"]
        for step in STEPS
        for seen in step.received
        if "iceParameters" in seen.message["data"]
    ]
    assert len(secrets) == 3
    assert {(found["password"], found["usernameFragment"]) for found in secrets} == {("(removed)", "(removed)")}


def test_the_page_shows_each_step_in_order() -> None:
    assert "{" + "step}" not in PAGE
    sections = PAGE.split("\n### ")[1:]
    for number, (step, section) in enumerate(zip(STEPS, sections, strict=True), 1):
        assert section.startswith(f"{number}. ")
        for message in step.received:
            assert f"`{message.subject}`" in section
            assert f'"id": "{message.message["id"]}"' in section
    assert f"mafalda.room.{ROOM}.peer.alice.intent.join" in PAGE


@pytest.mark.parametrize(
    ("seen", "problems"),
    [
        ({"a": 1, "b": [{"c": "x"}], "new": True}, []),
        ({"a": 1.5, "b": [{"c": "y"}]}, []),
        ({"a": 1, "b": []}, []),
        ({"b": [{"c": "x"}]}, [".a is gone"]),
        ({"a": "1", "b": [{"c": "x"}]}, [".a: was int, is str"]),
        ({"a": True, "b": [{"c": "x"}]}, [".a: was int, is bool"]),
        ({"a": 1, "b": [{}]}, [".b[0].c is gone"]),
    ],
)
def test_the_comparison_of_a_replay(seen: object, problems: list[str]) -> None:
    assert missing_fields({"a": 1, "b": [{"c": "x"}]}, seen) == problems
