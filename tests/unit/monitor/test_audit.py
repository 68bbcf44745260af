"""Each finding of an audit, by a fleet that has it and one that has not."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import PeerInventory, RelayInventory, ServerInventory
from mafalda.contract.messages.subscriptions import SubscribedConsumer
from mafalda.errors import DeadlineExceeded, NoCapacity
from mafalda.monitor.audit.checks import RELAY_UNUSED_S, Evidence, compare, overdue, pending
from mafalda.monitor.audit.finding import CODES, Finding, Subject
from mafalda.monitor.audit.history import AuditedLog
from mafalda.monitor.records import read_lines, record
from mafalda.projection.state import State
from mafalda.snapshot.format import Snapshot
from mafalda.testing.builders import NOON, ROOM, example, message, subject_of
from mafalda.testing.stories import Story, place

OPERATING = Path(__file__).parents[3] / "docs" / "operating.md"


def a_call() -> Story:
    """Alice on one server, Bob on another, who hears her over a relay."""
    story = Story().server_starts("s1", "s1-a").server_starts("s2", "s2-a", "s2-b")
    story.joins("alice", "s1-a").opens_transport("alice").produces("alice", "mic", worker="s1-a")
    story.joins("bob", "s2-a").opens_transport("bob").opens_relay("mic", "s1-a", "s2-a")
    return story.consumes("bob", "bob-mic", "mic")


def audited(story: Story) -> AuditedLog:
    log = AuditedLog.begin(None)
    for entry in read_lines(story.lines()):
        log.fold(entry)
    return log


def waiting(story: Story, code: str) -> list[tuple[str, int | None]]:
    """The subjects of pending findings of one code, with the entry since which they are."""
    return [(str(it.subject), it.since_seq) for it in pending(audited(story)) if it.code == code]


# --- pending by the log alone ------------------------------------------------------------------------


def test_a_call_is_clean() -> None:
    assert pending(audited(a_call())) == []


@pytest.mark.parametrize(
    ("code", "bad", "about", "good"),
    [
        (
            "peer-placing",
            lambda story: story.places("carol", "s2-b"),
            "lobby/carol s2-b",
            lambda story: story.joins("carol", "s2-b"),
        ),
        (
            "peer-placing",
            lambda story: story.worker_dies("s2-a").places("bob", "s2-b", 2, "worker-died"),
            "lobby/bob s2-b",
            lambda story: story.worker_dies("s2-a").moves("bob", "s2-b", 2),
        ),
        (
            "peer-unplaced",
            lambda story: story.worker_dies("s2-a"),
            "lobby/bob",
            lambda story: story.worker_dies("s2-b"),
        ),
        (
            "peer-unplaced",
            lambda story: story.server_is_lost("s2"),
            "lobby/bob",
            lambda story: story.server_is_lost("s2").leaves("bob"),
        ),
        (
            "relay-opening",
            lambda story: story.orders_relay("mic", "s1-a", "s2-b"),
            "lobby mic s2-b",
            lambda story: story.orders_relay("mic", "s1-a", "s2-b").fails_relay("mic", "s1-a", "s2-b"),
        ),
        (
            "relay-unused",
            lambda story: story.is_done("bob", "close-consumer", "bob-mic"),
            "lobby mic s2-a",
            lambda story: story.is_done("bob", "close-consumer", "bob-mic").closes_relay("mic", "s1-a", "s2-a"),
        ),
        (
            "relay-unused",
            lambda story: story.leaves("bob"),
            "lobby mic s2-a",
            lambda story: story.leaves("bob").closes_producer("alice", "mic"),
        ),
    ],
)
def test_what_waits_by_the_log(
    code: str, bad: Callable[[Story], Story], about: str, good: Callable[[Story], Story]
) -> None:
    story = bad(a_call())
    assert waiting(story, code) == [(about, len(story.entries))]
    assert pending(audited(good(a_call()))) == []


def test_a_relay_from_which_another_one_begins_is_used() -> None:
    story = a_call().is_done("bob", "close-consumer", "bob-mic").opens_relay("mic", "s2-a", "s2-b")
    story.joins("carol", "s2-b").opens_transport("carol").consumes("carol", "carol-mic", "mic")
    assert waiting(story, "relay-unused") == []


def test_a_relay_is_unused_since_its_last_consumer_ended() -> None:
    story = a_call()
    story.leaves("bob")
    ended = len(story.entries)
    story.joins("carol", "s2-b")
    assert waiting(story, "relay-unused") == [("lobby mic s2-a", ended)]


# --- intents -----------------------------------------------------------------------------------------


def entry(seq: int, payload: Payload, *, cause: Message | None = None, id: str | None = None) -> tuple[int, Message]:
    subject = subject_of(payload)
    return seq, message(payload, id=id or f"m{seq}", subject=subject, cause=cause)


def folded(*entries: tuple[int, Message]) -> AuditedLog:
    log = AuditedLog.begin(None)
    for seq, found in entries:
        log.fold(record(Delivery(str(found.subject), encode(found), seq)))
    return log


def rejected() -> results.Rejected:
    return results.Rejected(intent="leave", error=ErrorInfo.of(NoCapacity("full")))


def test_an_intent_is_open_until_its_result_is_there() -> None:
    asked = entry(7, intents.Leave())
    (found,) = pending(folded(asked))
    assert (found.code, found.since_seq, found.subject.object) == ("intent-unanswered", 7, "m7")
    assert pending(folded(asked, entry(8, rejected(), cause=asked[1]))) == []
    other = entry(8, rejected(), cause=entry(3, intents.Leave())[1])
    assert [it.since_seq for it in pending(folded(asked, other))] == [7]


def test_an_intent_whose_subject_can_carry_no_result_is_not_open() -> None:
    for subject in ("mafalda.room.r1.peer.*.intent.leave", "mafalda.room.r1.peer.alice.intent.>"):
        log = AuditedLog.begin(None)
        log.fold(record(Delivery(subject, b"{}", 7)))
        assert log.open_intents == []


def test_a_join_is_open_until_the_agent_of_its_place_answers() -> None:
    asked = entry(1, intents.Join())
    placed = entry(2, example(commands.PlacePeer).model_copy(update={"join": "m1"}), cause=asked[1])
    joined = entry(3, example(results.JoinResult), cause=placed[1])
    assert [it.code for it in pending(folded(asked, placed))] == ["intent-unanswered", "peer-unplaced"]
    assert [it.code for it in pending(folded(asked, placed, joined))] == ["peer-unplaced"]


def test_a_repeated_intent_is_one_and_an_unreadable_one_is_answered_too() -> None:
    asked, again = entry(1, intents.Leave(), id="same"), entry(2, intents.Leave(), id="same")
    assert [it.since_seq for it in pending(folded(asked, again))] == [1]
    log = AuditedLog.begin(None)
    subject = subject_of(intents.Leave())
    log.fold(record(Delivery(subject, b"no json", 1)))
    (found,) = pending(log)
    answer = message(rejected(), id=found.subject.object, subject=subject_of(rejected()))
    log.fold(record(Delivery(str(answer.subject), encode(answer), 2)))
    assert pending(log) == []


def test_what_was_open_in_a_snapshot_is_open() -> None:
    fleet = {"servers": [], "openIntents": [[40, "leave", ROOM, "alice", "", "m40", "placed", None]]}
    log = AuditedLog.begin(Snapshot(50, fleet))
    assert [(it.code, it.since_seq) for it in pending(log)] == [("intent-unanswered", 40)]
    answer = message(rejected(), id="m51", cause=entry(40, intents.Leave())[1])
    log.fold(record(Delivery(subject_of(rejected()), encode(answer), 51)))
    assert pending(log) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=30))
def test_an_intent_is_open_exactly_as_long_as_it_has_no_result(steps: list[tuple[bool, int]]) -> None:
    log, is_open, answered = AuditedLog.begin(None), set[str](), set[str]()
    for seq, (asks, number) in enumerate(steps, start=1):
        name = f"i{number}"
        asked = entry(seq, intents.Leave(), id=name)
        found = asked if asks else entry(seq, rejected(), cause=asked[1])
        log.fold(record(Delivery(str(found[1].subject), encode(found[1]), seq)))
        if asks:
            is_open |= {name} - answered  # a repetition of what has its result is not answered again
        elif name in is_open:
            is_open.remove(name)
            answered.add(name)
    assert {it.id for it in log.open_intents} == is_open


# --- deadlines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "waited_s", "late"),
    [
        ("intent-unanswered", 19, False),
        ("intent-unanswered", 21, True),
        ("peer-placing", 21, True),
        ("relay-unused", 21, False),
        ("relay-unused", 21 + RELAY_UNUSED_S, True),
    ],
)
def test_what_waits_is_overdue_after_the_deadline(code: str, waited_s: float, late: bool) -> None:
    found = Finding(code, "it waits", Subject(), 1, NOON)
    assert overdue(found, NOON + timedelta(seconds=waited_s), 20) is late


# --- by what agents answer ---------------------------------------------------------------------------

NOTHING: dict[str, list[str]] = {
    "transports": [],
    "producers": [],
    "consumers": [],
    "data_producers": [],
    "data_consumers": [],
}


def held(peer: str, worker: str, generation: int = 1, **objects: list[str]) -> PeerInventory:
    return PeerInventory.model_validate(
        {"room": ROOM, "peer": peer, "worker": worker, "generation": generation, **NOTHING, **objects}
    )


RELAY = RelayInventory(room=ROOM, producer="mic", data=False, source=place("s1-a"), target=place("s2-a"))
ALICE = held("alice", "s1-a", transports=["alice-t"], producers=["mic"])
BOB = held("bob", "s2-a", transports=["bob-t"], consumers=["bob-mic"])


def answer(server: str, peers: list[PeerInventory], **changed: object) -> ServerInventory:
    workers = {"s1": ["s1-a"], "s2": ["s2-a", "s2-b"]}[server]
    relays = [RELAY] if server == "s2" else []
    whole = ServerInventory(server=server, incarnation="i1", seq=1, workers=workers, peers=peers, relays=relays)
    return whole.model_copy(update=changed)


def load(server: str, worker: str, **figures: object) -> ServerLoad:
    of_worker = WorkerLoad.model_validate({"worker": worker, "pid": 1, "cpu_ratio": 0.1, **figures})
    return ServerLoad(server=server, incarnation="i1", interval_s=1, cpu_count=1, workers=[of_worker])


TRUE = {"s1": answer("s1", [ALICE]), "s2": answer("s2", [BOB])}
LOADS = {"s1": load("s1", "s1-a", relays_out=1), "s2": load("s2", "s2-a", relays_in=1)}


def found_in(story: Story, evidence: Evidence) -> dict[str, str]:
    """The findings of a comparison: what was found, by code."""
    return {it.code: it.what for it in compare(audited(story), evidence)}


def test_a_truthful_fleet_has_no_findings() -> None:
    assert found_in(a_call(), Evidence(TRUE, LOADS)) == {}


@pytest.mark.parametrize(
    ("code", "changed", "said"),
    [
        ("object-missing", {"s1": answer("s1", [])}, "lobby/alice is in the log"),
        ("object-missing", {"s2": answer("s2", [BOB], workers=["s2-a"])}, "s2-b is in the log"),
        ("object-missing", {"s1": answer("s1", [held("alice", "s1-a", producers=["mic"])])}, "alice-t is in the log"),
        ("object-unknown", {"s1": answer("s1", [ALICE, held("carol", "s1-a")])}, "lobby/carol is in the worker"),
        ("object-unknown", {"s1": answer("s1", [ALICE, held("_orphans", "s1-a", 0, transports=["x"])])}, "_orphans"),
        ("object-unknown", {"s1": answer("s1", [ALICE], relays=[RELAY])}, "lobby/mic s1-a->s2-a is in the worker"),
        ("generation-old", {"s2": answer("s2", [BOB.model_copy(update={"generation": 3})])}, "generation 3 in truth"),
        ("peer-in-two-places", {"s1": answer("s1", [ALICE, held("bob", "s1-a", 2)])}, "s1-a of s1 (generation 2)"),
        ("consumer-without-path", {"s2": answer("s2", [BOB], relays=[])}, "s2-a does not have the relay"),
        (
            "consumer-without-path",
            {"s1": answer("s1", [held("alice", "s1-a", transports=["alice-t"])])},
            "s1-a does not have the producer",
        ),
        ("server-unreachable", {"s1": DeadlineExceeded("no reply")}, "its agent does not answer"),
        ("server-unreachable", {"s1": NoCapacity("busy")}, "answers no inventory: busy"),
        ("server-incarnation", {"s1": answer("s1", [ALICE], incarnation="i2")}, "i1 by the log, i2 in truth"),
    ],
)
def test_what_differs_from_the_log(code: str, changed: dict[str, ServerInventory], said: str) -> None:
    found = found_in(a_call(), Evidence(TRUE | changed, LOADS))
    assert said in found[code]


def test_a_peer_that_was_moved_is_old_where_it_was() -> None:
    story = a_call().worker_dies("s2-a").moves("bob", "s2-b", 2)
    here = {"s1": answer("s1", [ALICE]), "s2": answer("s2", [held("bob", "s2-b", 2)], workers=["s2-b"], relays=[])}
    assert found_in(story, Evidence(here)) == {}
    both = {**here, "s1": answer("s1", [ALICE, held("bob", "s1-a")])}
    assert "generation 1, 2 by the log" in found_in(story, Evidence(both))["generation-old"]


def test_a_path_is_followed_over_several_relays() -> None:
    story = a_call().opens_relay("mic", "s2-a", "s2-b").joins("carol", "s2-b").opens_transport("carol")
    story.consumes("carol", "carol-mic", "mic")
    carol = held("carol", "s2-b", transports=["carol-t"], consumers=["carol-mic"])
    onward = RELAY.model_copy(update={"source": place("s2-a"), "target": place("s2-b")})
    whole = TRUE | {"s2": answer("s2", [BOB, carol], relays=[RELAY, onward])}
    assert found_in(story, Evidence(whole)) == {}
    broken = TRUE | {"s2": answer("s2", [BOB, carol], relays=[onward])}
    gaps = [it for it in compare(audited(story), Evidence(broken)) if it.code == "consumer-without-path"]
    assert {it.subject.peer for it in gaps} == {"bob", "carol"}


@pytest.mark.parametrize(
    ("code", "loads", "said"),
    [
        ("worker-unresponsive", {"s1": load("s1", "s1-a", state="unresponsive", channel_latency_s=4)}, "for 4 s; 1"),
        ("relay-without-target", {"s1": load("s1", "s1-a", relays_out=2)}, "sends 2 producers to other workers, 1 by"),
        ("append-failed", {"s1": LOADS["s1"].model_copy(update={"append_error": "log-full"})}, "failed: log-full"),
    ],
)
def test_what_load_reports_show(code: str, loads: dict[str, ServerLoad], said: str) -> None:
    assert said in found_in(a_call(), Evidence(TRUE, LOADS | loads))[code]
    former = {name: it.model_copy(update={"incarnation": "i0"}) for name, it in loads.items()}
    assert found_in(a_call(), Evidence(TRUE, LOADS | former)) == {}


@pytest.mark.parametrize(("as_of_seq", "since"), [(5, [10]), (10, []), (12, [])])
def test_an_agent_that_does_not_act_on_its_commands_is_behind(as_of_seq: int, since: list[int]) -> None:
    story = a_call()
    commanded = [seq for seq, subject, _ in story.entries if subject.startswith("mafalda.command.lobby.s2.")]
    assert commanded[-1] == 10
    report = LOADS["s2"].model_copy(update={"as_of_seq": as_of_seq})
    assert [it.since_seq for it in pending(audited(story), {"s2": report})] == since
    assert pending(audited(story.server_is_lost("s2").leaves("bob")), {"s2": report}) == []


def test_a_server_that_has_ended_is_not_compared() -> None:
    story = a_call().server_is_lost("s2")
    assert found_in(story, Evidence({"s1": TRUE["s1"]}, LOADS | {"s1": load("s1", "s1-a")})) == {}
    assert audited(story).state.to_json_dict() == story.state.to_json_dict() != State().to_json_dict()


# --- codes -------------------------------------------------------------------------------------------


def test_each_code_is_explained_to_operators() -> None:
    section = OPERATING.read_text(encoding="utf-8").partition("## Auditing a fleet")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == set(CODES)


def test_a_finding_says_what_to_do() -> None:
    found = Finding("peer-placing", "it waits", Subject("lobby", "alice", "s1", "s1-a"), 4, NOON)
    assert found.to_json_dict() == {
        "code": "peer-placing",
        "what": "it waits",
        "room": "lobby",
        "peer": "alice",
        "server": "s1",
        "worker": "s1-a",
        "sinceSeq": 4,
        "since": NOON,
        "mend": CODES["peer-placing"],
    }


def test_relays_are_used_by_the_consumers_of_subscriptions() -> None:
    story = Story().server_starts("s1", "s1-a").server_starts("s2", "s2-a")
    story.joins("alice", "s1-a").opens_transport("alice").produces("alice", "mic", worker="s1-a")
    story.joins("bob", "s2-a").opens_transport("bob").opens_relay("mic", "s1-a", "s2-a")
    (transport,) = audited(story).state.rooms[ROOM].peers["bob"].transports
    consumer = SubscribedConsumer(consumer="c1-1", producer="mic", kind="audio", relayed=True)
    opened = events.ConsumersOpened(subscription="all", transport=transport, generation=1, consumers=[consumer])
    story.append(opened, peer="bob")
    log = audited(story)
    assert "c1-1" in log.state.rooms[ROOM].peers["bob"].consumers
    assert log.unused_since(ROOM, "mic", place("s2-a")) == log.state.seq

    story.append(events.ConsumersClosed(subscription="all", generation=1, consumers=["c1-1"]), peer="bob")
    log = audited(story)
    assert not log.state.rooms[ROOM].peers["bob"].consumers
    assert log.unused_since(ROOM, "mic", place("s2-a")) == log.state.seq
