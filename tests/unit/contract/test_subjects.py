"""Ids and subjects: one alphabet, and what is built can be taken apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.contract import subjects
from mafalda.contract.ids import check_id, derived_id
from mafalda.contract.subjects import Address
from mafalda.errors import IllegalId, IllegalReplySubject

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
actions = st.sampled_from(["join", "peer-joined", "open-relay"])
ILLEGAL = ["", "a.b", "*", ">", "a b", "a\n", "\x00", "ä", "a/b", "x" * 65, "a\r\nPUB x 0", "$JS", "_INBOX.x"]

BUILDERS: list[Callable[[str], str]] = [
    lambda bad: subjects.intent(bad, "p", "join"),
    lambda bad: subjects.intent("r", bad, "join"),
    lambda bad: subjects.query(bad, "p", "room"),
    lambda bad: subjects.query("r", bad, "room"),
    lambda bad: subjects.peer_event(bad, "p", "transport-closed"),
    lambda bad: subjects.peer_event("r", bad, "transport-closed"),
    lambda bad: subjects.room_event(bad, "peer-joined"),
    lambda bad: subjects.command(bad, "s", "place-peer"),
    lambda bad: subjects.command("r", bad, "place-peer"),
    subjects.room_commands,
    subjects.server_commands,
    lambda bad: subjects.server_event(bad, "server-started"),
    subjects.load,
    lambda bad: subjects.agent_request(bad, "connect-pipe"),
]


@given(ids)
def test_legal_ids(value: str) -> None:
    assert check_id("room", value) == value


@pytest.mark.parametrize("value", ILLEGAL)
def test_illegal_ids(value: str) -> None:
    with pytest.raises(IllegalId) as refused:
        check_id("room", value)
    assert refused.value.details == {"what": "room", "value": value[:80]}


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("value", ILLEGAL)
def test_no_subject_is_built_of_an_illegal_id(build: Callable[[str], str], value: str) -> None:
    """A wildcard or a dot in an id would reach into other rooms."""
    with pytest.raises(IllegalId):
        build(value)


@given(ids, ids, ids, actions)
def test_what_is_built_is_taken_apart(room: str, peer: str, server: str, action: str) -> None:
    for built, address in [
        (subjects.intent(room, peer, action), Address("intent", action, room=room, peer=peer)),
        (subjects.result(room, peer, action), Address("result", action, room=room, peer=peer)),
        (subjects.query(room, peer, action), Address("query", action, room=room, peer=peer)),
        (subjects.peer_event(room, peer, action), Address("event", action, room=room, peer=peer)),
        (subjects.room_event(room, action), Address("event", action, room=room)),
        (subjects.command(room, server, action), Address("command", action, room=room, server=server)),
        (subjects.server_event(server, action), Address("event", action, server=server)),
        (subjects.agent_request(server, action), Address("request", action, server=server)),
        (subjects.load(server), Address("load", "load", server=server)),
    ]:
        assert subjects.parse(built) == address
        assert subjects.parse(subjects.live(built)) == address


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "mafalda",
        "mafalda.room.r",
        "mafalda.room.r.peer.p.intent",
        "mafalda.room.r.peer.p.intent.join.now",
        "mafalda.room.r.peer.p.order.join",
        "mafalda.room.r.event",
        "mafalda.command.r.place-peer",
        "mafalda.server.s.load.x",
        "mafalda.server.s.event",
        "other.room.r.event.x",
        "live.live.mafalda.room.r.event.x",
        "_INBOX.a.b",
    ],
)
def test_what_is_not_ours(subject: str) -> None:
    assert subjects.parse(subject) is None


def test_an_illegal_id_can_be_answered_where_it_was_said() -> None:
    address = subjects.parse("mafalda.room.r$.peer.p!.intent.join")
    assert address == Address("intent", "join", room="r$", peer="p!")
    assert subjects.result("r$", "p!", "join") == "mafalda.room.r$.peer.p!.result.join"


@given(st.text(max_size=60))
def test_any_text_is_taken_apart_or_not(text: str) -> None:
    found = subjects.parse(text)
    assert found is None or isinstance(found, Address)


def matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


def test_the_log_captures_what_is_stored_and_nothing_secret() -> None:
    stored = [
        subjects.intent("r", "p", "join"),
        subjects.result("r", "p", "join"),
        subjects.peer_event("r", "p", "transport-closed"),
        subjects.room_event("r", "peer-joined"),
        subjects.command("r", "s", "place-peer"),
        subjects.server_event("s", "server-started"),
    ]
    passing = [subjects.query("r", "p", "transport"), subjects.agent_request("s", "connect-pipe"), subjects.load("s")]
    for subject in stored:
        assert sum(matches(pattern, subject) for pattern in subjects.LOG_SUBJECTS) == 1, subject
    for subject in passing + [subjects.live(subject) for subject in stored]:
        assert not any(matches(pattern, subject) for pattern in subjects.LOG_SUBJECTS), subject
    assert matches(subjects.LOAD_SUBJECTS[0], subjects.load("s"))
    assert matches(subjects.server_commands("s"), subjects.command("r", "s", "place-peer"))
    assert not matches(subjects.server_commands("s"), subjects.command("r", "t", "place-peer"))


# --- reply subjects ------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["_INBOX.abc", "_INBOX.abc.def", "_INBOX_alice.x.1", "_INBOX-bob.A_-9"])
def test_an_inbox_may_be_answered(subject: str) -> None:
    assert subjects.check_reply(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "_INBOX",
        "_INBOX.",
        "_INBOX.a.",
        "_INBOX..a",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a b",
        "_INBOX.a\n",
        "_INBOX.a\r\nPUB b 0",
        "_inbox.a",
        " _INBOX.a",
        "$JS.API.STREAM.DELETE.MAFALDA_LOG",
        "mafalda.room.r.peer.p.result.join",
        "live._INBOX.a",
        "_INBOX." + "a" * 300,
    ],
)
def test_nothing_else_may_be_answered(subject: str) -> None:
    with pytest.raises(IllegalReplySubject) as refused:
        subjects.check_reply(subject)
    assert len(refused.value.details["subject"]) <= 80


# --- derived ids ---------------------------------------------------------------------------------


def test_a_derived_id_is_the_same_in_every_version_and_language() -> None:
    """Allocators of two releases run beside each other and must say the same thing under the same id."""
    assert derived_id("place-peer", "lobby", "alice", 1) == "68b2541780b68b6df85d390bb82e0a2d"
    assert derived_id("a", 1) == hashlib.sha256(b"a\x1f1").hexdigest()[:32]


@given(st.lists(ids | st.integers(0, 10**12), min_size=1, max_size=5), st.lists(ids, min_size=1, max_size=5))
def test_derived_ids(parts: list[str | int], others: list[str | int]) -> None:
    assert check_id("message", derived_id(*parts)) == derived_id(*parts)
    if [str(part) for part in parts] != others:
        assert derived_id(*parts) != derived_id(*others)


def test_where_a_part_ends_matters() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc") != derived_id("abc")
