"""Bad input gets a specific error on the sender's result subject, once, and disturbs nobody."""

from __future__ import annotations

import json

import pytest

from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import intents
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES
from tests.unit.allocator.allocator_world import World, placed, rejection

JOIN = {
    "specversion": "1.0",
    "id": "i1",
    "source": "/test",
    "type": "mafalda.intent.join.v1",
    "time": "2026-01-01T12:00:00Z",
    "data": {},
}
SUBJECT = "mafalda.room.lobby.peer.alice.intent.join"


def ask(world: World, raw: bytes, subject: str = SUBJECT) -> OpenIntent:
    seq = world.append_raw(subject, raw)
    intent = world.view.open_intents.get(seq)
    assert intent is not None
    return intent


def but(**changes: object) -> bytes:
    return json.dumps(JOIN | changes).encode()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\x00 not json", "malformed-message"),
        (b"[]", "malformed-message"),
        (b"", "malformed-message"),
        (but(type=None), "malformed-message"),
        (but(specversion="0.3"), "malformed-message"),
        (but(data={"region": "no such id!"}), "malformed-message"),
        (but(type="mafalda.intent.dance.v1"), "unknown-type"),
        (but(type="mafalda.intent.join.v9"), "unknown-version"),
        (but(type="mafalda.intent.leave.v1"), "malformed-message"),
        (but(type="mafalda.event.peer-left.v1", data={"peer": "alice", "generation": 1}), "malformed-message"),
        (but(data={"appData": {"x": "y" * MAX_MESSAGE_BYTES}}), "message-too-large"),
    ],
)
def test_unreadable_intents_are_rejected_on_their_own_subject(raw: bytes, code: str) -> None:
    world = World()
    world.server("s1")
    intent = ask(world, raw)
    decision = world.commit(world.decide(intent))
    rejected = rejection(decision)
    assert (rejected.intent, rejected.error.code) == ("join", code)
    (append,) = decision.results
    assert append.subject == "mafalda.room.lobby.peer.alice.result.join"
    if intent.id:
        assert (append.id, append.causation) == (derived_id("rejected", "lobby", "alice", "i1"), "i1")
    else:
        assert (append.id, append.causation) == (derived_id("rejected", "seq", intent.seq), None)
    assert len(world.view.open_intents) == 0, "the rejection closes it, for every allocator"


def test_no_part_of_what_was_refused_is_repeated() -> None:
    world = World()
    decision = world.decide(ask(world, but(data={"region": "s3cret password"})))
    assert "s3cret" not in rejection(decision).model_dump_json()


@pytest.mark.parametrize(
    "subject",
    [
        "mafalda.room.lobby.peer.alíce.intent.join",
        "mafalda.room.a$b.peer.alice.intent.join",
        f"mafalda.room.{'x' * 65}.peer.alice.intent.join",
    ],
)
def test_an_illegal_id_is_rejected_on_its_own_result_subject(subject: str) -> None:
    world = World()
    world.server("s1")
    decision = world.decide(ask(world, but(), subject))
    assert rejection(decision).error.code == "illegal-id"
    assert decision.results[0].subject == subject.replace(".intent.", ".result.")
    assert list(world.view.rooms) == []


@pytest.mark.parametrize("token", ["*", ">", "a*b", "x" * 300, "a\x00b", "a b"])
def test_a_subject_that_could_not_carry_an_answer_is_answered_in_the_inbox_alone(token: str) -> None:
    world = World()
    decision = world.decide(ask(world, but(), f"mafalda.room.lobby.peer.{token}.intent.join"))
    assert (decision.reason, decision.appends, decision.settled) == ("unanswerable", (), True)
    assert decision.private is not None
    assert (decision.private.intent, decision.private.error.code) == ("join", "illegal-id")


def test_an_unknown_action_is_answered_on_its_own_subject() -> None:
    world = World()
    decision = world.decide(ask(world, but(type="mafalda.intent.dance.v1"), SUBJECT.replace("join", "dance")))
    assert decision.results[0].subject == "mafalda.room.lobby.peer.alice.result.dance"


def test_what_a_peer_asks_before_it_joined_is_not_joined() -> None:
    world = World()
    world.server("s1")
    decision = world.commit(world.decide(world.intent("lobby", "alice", intents.PauseProducer(producer="mic"))))
    assert rejection(decision).error.code == "not-joined"
    assert len(world.view.open_intents) == 0


def test_it_matters_where_the_peer_stood_when_it_asked() -> None:
    """An intent before the join intent stays refused, whenever an allocator comes to look at it."""
    world = World()
    world.server("s1")
    early = world.intent("lobby", "alice", intents.PauseProducer(producer="mic"))
    world.joined("lobby", "alice")
    assert rejection(world.decide(early)).error.code == "not-joined"


def test_what_a_placed_peer_asks_is_its_agent_s() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    decision = world.decide(world.intent("lobby", "alice", intents.PauseProducer(producer="mic")))
    assert (decision.reason, decision.appends) == ("for-the-agent", ())


def test_an_answered_intent_is_closed_by_its_own_peer_s_answers_only() -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    world.joined("lobby", "bob")
    intent = world.consume("lobby", "alice", "mic")
    result = json.dumps(
        {"id": "r1", "causationid": intent.id, "type": "mafalda.result.consume.v1", "data": {}}
    ).encode()
    world.append_raw("mafalda.room.lobby.peer.bob.result.consume", result)
    assert world.view.open_intents.get(intent.seq) is intent
    world.append_raw("mafalda.room.lobby.peer.alice.result.consume", result)
    assert world.view.open_intents.get(intent.seq) is None


@pytest.mark.parametrize(
    "subject",
    [
        "mafalda.room.lobby.peer.alice.result.join",
        "mafalda.room.lobby.event.peer-left",
        "mafalda.room.lobby.peer.alice.event.transport-closed",
        "mafalda.command.lobby.s1.place-peer",
        "mafalda.server.s1.event.worker-died",
        "mafalda.nothing.of.ours",
    ],
)
@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b'{"type":1,"data":[]}', but(), b"\xff"])
def test_poison_anywhere_changes_nothing(subject: str, raw: bytes) -> None:
    world = World()
    world.server("s1")
    world.joined("lobby", "alice")
    before = world.view.state.to_json_dict()
    seq = world.append_raw(subject, raw)
    after = world.view.state.to_json_dict()
    before.pop("seq"), after.pop("seq")
    assert before == after
    if "command" in subject:
        assert world.view.rooms.get("lobby").command_seq == seq, "it is the room's last command all the same"
    assert placed(world.join("other", "bob"))


def test_a_believable_message_on_another_s_subject_changes_nothing() -> None:
    world = World()
    world.server("s1")
    place = world.joined("lobby", "alice")
    lost = {"server": "s1", "incarnation": "i1"}
    raw = json.dumps(JOIN | {"type": "mafalda.event.server-lost.v1", "data": lost}).encode()
    world.append_raw("mafalda.server.s2.event.server-lost", raw)
    world.append_raw("mafalda.room.lobby.event.server-lost", raw)
    assert world.view.fleet.at(place) is not None
    assert world.view.counters["unreadable-event"] == 2
