"""The read-only views, of stories on an in-memory bus and of agents that answer with right or wrong inventories."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson
import pytest

from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Delivery, LogUsage
from mafalda.cli.commands.ls import log_warning
from mafalda.contract.messages.allocator_report import AllocatorReport, LateReservation
from mafalda.contract.messages.commands import Candidate, Explanation, OpenRelays, RelayOrder
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import Ok, PeerInventory, QueryServer, RelayInventory, ServerInventory
from mafalda.contract.messages.results import Rejected
from mafalda.contract.subjects import LOG_SUBJECTS, agent_request, allocator_report, load
from mafalda.errors import MalformedMessage, NotFound, WorkerRequestFailed
from mafalda.monitor.audit.collect import audit
from mafalda.monitor.checkup import check_log_usage, check_snapshots
from mafalda.monitor.explain import explain, reasons
from mafalda.monitor.live import live_state
from mafalda.monitor.overview import overview, read_loads, servers_refused
from mafalda.monitor.records import Record, read_lines, read_log
from mafalda.monitor.replay import current_state, replay
from mafalda.monitor.sentences import sentence
from mafalda.monitor.verify import differences, verify
from mafalda.testing.builders import NOON, message
from mafalda.testing.memory_bus import MemoryBus
from mafalda.testing.stories import Story, place


def a_relayed_consume() -> Story:
    """Alice on one worker, Bob on another, who hears her."""
    story = Story("lobby").server_starts("s1", "s1-a", "s1-b")
    story.joins("alice", "s1-a").opens_transport("alice").produces("alice", "mic", worker="s1-a")
    story.joins("bob", "s1-b").opens_transport("bob")
    story.orders_relay("mic", "s1-a", "s1-b").opens_relay("mic", "s1-a", "s1-b")
    return story.consumes("bob", "bob-mic", "mic")


async def bus_with(story: Story) -> MemoryBus:
    bus = MemoryBus()
    for seq, subject, payload in story.entries:
        bus.broker.store(subject, encode(message(payload, id=f"m{seq}", subject=subject)), {})
    return bus


def truth(**changed: object) -> ServerInventory:
    """What the agent of ``a_relayed_consume`` has to answer."""
    nothing: dict[str, list[str]] = {"producers": [], "consumers": [], "data_producers": [], "data_consumers": []}
    alice = PeerInventory.model_validate(
        {"room": "lobby", "peer": "alice", "worker": "s1-a", "generation": 1, "transports": ["alice-t"], **nothing}
        | {"producers": ["mic"]}
    )
    bob = PeerInventory.model_validate(
        {"room": "lobby", "peer": "bob", "worker": "s1-b", "generation": 1, "transports": ["bob-t"], **nothing}
        | {"consumers": ["bob-mic"]}
    )
    relay = RelayInventory(room="lobby", producer="mic", data=False, source=place("s1-a"), target=place("s1-b"))
    whole = ServerInventory(
        server="s1", incarnation="i1", seq=1, workers=["s1-a", "s1-b"], peers=[alice, bob], relays=[relay]
    )
    return whole.model_copy(update=changed)


@asynccontextmanager
async def answering(bus: MemoryBus, inventory: Payload) -> AsyncIterator[None]:
    async def answer(question: Delivery) -> Message:
        return compose(inventory, subject=question.reply or "_INBOX.x", source="/test")

    async with bus.serve(agent_request("s1", QueryServer.action), handler=answer):
        yield


async def test_a_truthful_fleet_differs_in_nothing() -> None:
    bus = await bus_with(a_relayed_consume())
    async with answering(bus, truth()):
        assert await differences(bus, await current_state(bus)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"incarnation": "i2"}, "incarnation i1 by the log, i2 in truth"),
        ({"workers": ["s1-a"]}, "workers: s1-b is in the log, not in the worker"),
        ({"relays": []}, "relays: lobby/mic s1-a->s1-b is in the log, not in the worker"),
        ({"peers": []}, "peers: lobby/alice is in the log, not in the worker"),
        (
            {"peers": [truth().peers[0].model_copy(update={"producers": ["mic", "ghost"]}), truth().peers[1]]},
            "producers: ghost is in the worker, not in the log",
        ),
        (
            {"peers": [truth().peers[0], truth().peers[1].model_copy(update={"consumers": []})]},
            "consumers: bob-mic is in the log, not in the worker",
        ),
        (
            {"peers": [truth().peers[0], truth().peers[1].model_copy(update={"generation": 2})]},
            "generation 1 by the log, s1-b generation 2 in truth",
        ),
    ],
)
async def test_every_kind_of_difference_is_found(changed: dict[str, object], said: str) -> None:
    bus = await bus_with(a_relayed_consume())
    async with answering(bus, truth(**changed)):
        found = await differences(bus, await current_state(bus))
    assert any(said in difference for difference in found), found


async def test_a_peer_that_never_joins_is_no_difference_and_yet_a_finding() -> None:
    """The workers have what the log lists as joined; that somebody should have joined is in the log alone."""
    bus = await bus_with(a_relayed_consume().places("carol", "s1-b"))
    async with answering(bus, truth()):
        assert await differences(bus, await current_state(bus)) == []
        verdict = await verify(bus, deadline_s=0)
        assert (await verify(bus, deadline_s=60)).ok
    assert not verdict.ok
    assert verdict.differences == []
    (found,) = verdict.findings
    assert (found.code, found.subject.peer, found.since) == ("peer-placing", "carol", bus.broker.stored_at[-1])


async def test_what_was_different_only_for_a_moment_is_not_found() -> None:
    """Bob's consumer is closed, and the log says so a moment later."""
    bus = await bus_with(a_relayed_consume())
    closing = truth(peers=[truth().peers[0], truth().peers[1].model_copy(update={"consumers": []})])
    asked = 0

    async def answer(question: Delivery) -> Message:
        nonlocal asked
        asked += 1
        return compose(closing if asked == 1 else truth(), subject=question.reply or "_INBOX.x", source="/test")

    async with bus.serve(agent_request("s1", QueryServer.action), handler=answer):
        found = await audit(bus, pause_s=0, listen_s=0)
    assert (found.findings, asked) == ([], 2)


async def test_a_reservation_that_an_allocator_does_not_release_is_found() -> None:
    bus = await bus_with(a_relayed_consume())
    late = LateReservation(
        kind="decision", server="s1", worker="s1-a", cost_ratio=0.02, age_s=30, room="lobby", peer="dave"
    )
    report = AllocatorReport(allocator="a1", late_reservations=[late])
    subject = allocator_report("a1")

    async def keep_reporting() -> None:
        while True:
            await bus.publish(subject, compose(report, subject=subject, source="/test"))
            await asyncio.sleep(0)

    async with answering(bus, truth()), background(keep_reporting(), "reports"):
        found = await audit(bus, pause_s=0, listen_s=0.01)
        assert [it.code for it in found.findings] == ["reservation-leaked"]
        assert (await audit(bus, pause_s=0, listen_s=0.01, deadline_s=60)).findings == []


async def test_what_stays_different_is_found() -> None:
    bus = await bus_with(a_relayed_consume())
    async with answering(bus, truth(relays=[])):
        found = await audit(bus, pause_s=0, listen_s=0)
    assert {it.code for it in found.findings} == {"object-missing", "consumer-without-path"}


async def test_an_agent_that_does_not_answer_is_a_difference() -> None:
    bus = await bus_with(a_relayed_consume())
    (found,) = await differences(bus, await current_state(bus))
    assert "does not answer" in found


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Rejected(intent="request", error=ErrorInfo.of(WorkerRequestFailed("the worker hangs"))), "the worker hangs"),
        (Ok(), "unexpected answer"),
    ],
)
async def test_an_agent_that_answers_no_inventory_is_a_difference(answer: Payload, said: str) -> None:
    bus = await bus_with(a_relayed_consume())
    async with answering(bus, answer):
        (found,) = await differences(bus, await current_state(bus))
    assert found.startswith("server s1: ")
    assert said in found


async def test_an_exported_log_replays_to_the_same_state() -> None:
    story = a_relayed_consume()
    bus = await bus_with(story)
    poison = bus.broker.store("mafalda.room.lobby.event.producer-closed", b"\xff\x00", {})
    lines = [entry.to_json_line() async for entry in read_log(bus, *LOG_SUBJECTS)]
    from_lines = await replay(_each(read_lines(lines)))
    assert from_lines.to_json_dict() == (await current_state(bus)).to_json_dict()
    assert from_lines.seq == poison.seq
    kept = orjson.loads(lines[-1])
    assert base64.b64decode(kept["raw"]) == b"\xff\x00"
    assert kept["error"]


async def test_a_file_that_is_no_log_names_the_line() -> None:
    good = [line async for line in _lines(await bus_with(a_relayed_consume()))]
    with pytest.raises(MalformedMessage) as caught:
        list(read_lines([good[0], b"", b'{"seq": 3}']))
    assert caught.value.details["line"] == 3


async def test_a_state_is_as_of_a_sequence_or_a_time() -> None:
    bus = await bus_with(a_relayed_consume())
    before_bob = await replay(read_log(bus, *LOG_SUBJECTS), seq=5)
    assert set(before_bob.rooms["lobby"].peers) == {"alice"}
    assert (await replay(read_log(bus, *LOG_SUBJECTS), at=NOON - timedelta(seconds=1))).seq == 0
    assert (await replay(read_log(bus, *LOG_SUBJECTS), at=NOON)).rooms["lobby"].relays


async def test_a_live_state_follows_the_log() -> None:
    story = a_relayed_consume()
    bus = await bus_with(story)
    async with live_state(bus) as live:
        subject = "mafalda.room.lobby.event.peer-left"
        await live.reached(len(story.entries))
        assert set(live.state.rooms["lobby"].peers) == {"alice", "bob"}
        story.leaves("bob")
        last = await bus.append(subject, message(story.entries[-1][2], id="left", subject=subject))
        await live.reached(last.seq)
        assert set(live.state.rooms["lobby"].peers) == {"alice"}


async def test_explain_finds_the_decisions_of_an_id_and_their_reasons() -> None:
    bus = await bus_with(a_relayed_consume())
    story = await explain(read_log(bus, *LOG_SUBJECTS), "bob")
    (placed,) = story.decisions
    assert placed.message
    assert "The story says so." in list(reasons(placed.message.data.explanation))  # type: ignore[attr-defined]
    assert any("open-relay" in entry.subject for entry in (await explain(read_log(bus, *LOG_SUBJECTS), "mic")).entries)
    with pytest.raises(NotFound):
        await explain(read_log(bus, *LOG_SUBJECTS), "nobody")


async def test_a_batch_of_relays_is_explained_by_each_of_its_producers() -> None:
    here, there = place("s1-a"), place("s1-b")
    orders = [RelayOrder(producer=producer, source=here, generation=1) for producer in ("mic", "camera")]
    because = Explanation(policy="relay-tree", summary="2 relays.")
    bus = await bus_with(
        a_relayed_consume().append(OpenRelays(room="lobby", target=there, relays=orders, explanation=because))
    )
    story = await explain(read_log(bus, *LOG_SUBJECTS), "camera")
    (decision,) = story.decisions
    assert sentence(decision) == "relay mic from s1-a, camera from s1-a to s1-b"


def test_what_an_explanation_lists_is_not_counted_again() -> None:
    listed = [Candidate(server="s", worker=f"w{number}", outcome="server-draining") for number in range(2)]
    counted = {"server-draining": 3, "above-watermark": 1}
    explanation = Explanation(policy="pack", summary="none", candidates=listed, passed_over=counted)
    assert list(reasons(explanation))[-2:] == ["1 more: above-watermark", "1 more: server-draining"]
    explanation = explanation.model_copy(update={"passed_over": {"server-draining": 2}})
    assert list(reasons(explanation))[1:] == ["s/w0: server-draining", "s/w1: server-draining"]


async def test_the_overview_has_loads_only_of_the_present_incarnation() -> None:
    bus = await bus_with(a_relayed_consume())
    worker = WorkerLoad(worker="s1-a", pid=1, cpu_ratio=0.25)
    for incarnation, shown in (("i1", 0.25), ("i0", None)):
        report = ServerLoad(server="s1", incarnation=incarnation, interval_s=1, cpu_count=2, workers=[worker])
        await bus.publish(load("s1"), compose(report, subject=load("s1"), source="/test"))
        found = await overview(bus)
        (first, _) = found["servers"][0]["workers"]
        assert (first["load"]["cpuRatio"] if first["load"] else None) == shown
    assert [peer["peer"] for peer in found["rooms"][0]["peers"]] == ["alice", "bob"]
    assert found["rooms"][0]["relays"][0]["status"] == "open"
    assert (await overview(bus, room="elsewhere"))["rooms"] == []


async def test_every_entry_is_one_line_without_what_nobody_reads() -> None:
    bus = await bus_with(a_relayed_consume())
    bus.broker.store("mafalda.room.lobby.event.peer-left", b"nonsense", {})
    lines = [sentence(entry) async for entry in read_log(bus, *LOG_SUBJECTS)]
    assert all("\n" not in line and "rtpParameters" not in line for line in lines)
    assert lines[-1].startswith("UNREADABLE")
    assert any(line == "relay mic from s1-a to s1-b" for line in lines)


async def _each(records: Iterator[Record]) -> AsyncIterator[Record]:
    for entry in records:
        yield entry


async def _lines(bus: MemoryBus) -> AsyncIterator[bytes]:
    async for entry in read_log(bus, *LOG_SUBJECTS):
        yield entry.to_json_line()


async def test_a_full_log_is_in_the_overview_and_says_what_to_do() -> None:
    bus = await bus_with(a_relayed_consume())
    assert log_warning((await overview(bus))["log"]) is None
    with bus.broker.full():
        found = (await overview(bus))["log"]
    assert (found["full"], found["limitBytes"], found["entries"]) == (True, found["bytes"], len(bus.broker.entries))
    warning = log_warning(found)
    assert warning is not None
    assert f"{found['bytes']:,} of {found['limitBytes']:,} bytes" in warning
    assert "max_bytes" in warning


async def test_a_log_that_refuses_appends_without_a_limit_of_its_own_is_full() -> None:
    """The limit of an account or a full disk: the heartbeats of agents say so, those of their present incarnation."""
    bus = await bus_with(a_relayed_consume())
    for incarnation, full in (("i0", False), ("i1", True)):
        report = ServerLoad(
            server="s1", incarnation=incarnation, interval_s=1, cpu_count=2, workers=[], append_error="log-full"
        )
        await bus.publish(load("s1"), compose(report, subject=load("s1"), source="/test"))
        assert (await overview(bus))["log"]["full"] is full
    refused = servers_refused(await current_state(bus), await read_loads(bus))
    finding = check_log_usage(await bus.log_usage(), refused)
    assert (finding.health, refused) == ("failure", ["s1"])
    assert "the last append of s1" in finding.found


@pytest.mark.parametrize(
    ("usage", "health"),
    [
        (LogUsage(entries=1000, bytes=10**9), "ok"),
        (LogUsage(entries=1000, bytes=8 * 10**8, limit_bytes=10**9), "ok"),
        (LogUsage(entries=1000, bytes=95 * 10**7, limit_bytes=10**9), "warning"),
        (LogUsage(entries=1000, bytes=10**9 - 1000, limit_bytes=10**9), "failure"),
        (LogUsage(entries=1000, bytes=10**6, limit_entries=1000), "failure"),
    ],
)
def test_how_full_the_log_is(usage: LogUsage, health: str) -> None:
    finding = check_log_usage(usage)
    assert finding.health == health
    assert bool(finding.mend) == (health != "ok")


@pytest.mark.parametrize(
    ("snapshot", "archived", "health", "words"),
    [
        (0, None, "ok", "no snapshot yet"),
        (900, None, "ok", "as of 900, 100 entries behind"),
        (900, 500, "ok", "archived up to 500"),
        (-200_000, None, "warning", "entries behind"),
        (900, -200_000, "warning", "archived up to"),
    ],
)
def test_snapshots_and_archive_that_do_not_keep_up_are_found(
    snapshot: int, archived: int | None, health: str, words: str
) -> None:
    finding = check_snapshots(LogUsage(entries=1, bytes=1, last_seq=1_000), snapshot, archived)
    assert finding.health == health
    assert words in finding.found
