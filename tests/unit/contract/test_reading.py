"""A message is believed only on its own subject."""

from __future__ import annotations

import pytest

from mafalda.contract import subjects
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.intents import Leave
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput, MalformedMessage
from mafalda.testing.builders import message

SUBJECT = subjects.intent("lobby", "alice", Leave.action)


def test_a_message_on_its_own_subject() -> None:
    sent = message(Leave(), subject=SUBJECT)
    address, read = read_message(SUBJECT, encode(sent))
    assert (address.room, address.peer, address.action, read) == ("lobby", "alice", "leave", sent)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.intent("lobby", "alice", "join"),
        subjects.room_event("lobby", "peer-left"),
        "somewhere.else",
        "mafalda.x",
    ],
)
def test_a_message_on_another_subject_is_refused(subject: str) -> None:
    with pytest.raises(MalformedMessage):
        read_message(subject, encode(message(Leave(), subject=SUBJECT)))


@pytest.mark.parametrize("named", [subjects.intent("lobby", "bob", "leave"), subjects.room_event("lobby", "x"), "x"])
def test_a_message_that_names_another_subject_is_refused(named: str) -> None:
    with pytest.raises(MalformedMessage):
        read_message(SUBJECT, encode(message(Leave(), subject=named)))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff"], ids=["empty", "object", "null", "not text"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_message(SUBJECT, data)


@pytest.mark.parametrize(
    "subject",
    [
        SUBJECT,
        subjects.peer_event("lobby", "alice", "transport-closed"),
        subjects.room_event("lobby", "peer-left"),
        subjects.command("lobby", "s1", "place-peer"),
        subjects.server_event("s1", "server-started"),
        subjects.agent_request("s1", "query-server"),
        subjects.load("s1"),
    ],
)
def test_an_address_gives_its_subject_back(subject: str) -> None:
    address = subjects.parse(subjects.live(subject))
    assert address is not None
    assert address.subject == subject


@pytest.mark.parametrize("named", [subjects.intent("lobby", "bob", Leave.action), "elsewhere", subjects.live(SUBJECT)])
def test_an_envelope_that_names_another_subject_is_refused(named: str) -> None:
    with pytest.raises(MalformedMessage, match="not the subject on which"):
        read_message(SUBJECT, encode(message(Leave(), subject=named)))


def test_an_envelope_need_not_name_its_subject() -> None:
    sent = message(Leave(), subject=SUBJECT).model_copy(update={"subject": None})
    assert read_message(SUBJECT, encode(sent))[1] == sent
