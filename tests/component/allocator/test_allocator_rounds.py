"""Whole rounds with one allocator: join, consume over a relay, a worker's death, silence, bad input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.compose import compose
from mafalda.bus.protocol import REPLY_HEADER, Appended, Delivery, Expect
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.envelope import Message, decode, encode
from mafalda.contract.messages.payload import Place
from mafalda.errors import BusUnavailable, Conflict, DeadlineExceeded
from mafalda.testing.clock import ManualClock
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from tests.component.allocator.allocator_fleet import DEADLINE_S, Fleet, open_fleet

pytestmark = pytest.mark.usefixtures("no_leaked_tasks")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with open_fleet() as opened:
        yield opened


# --- the usual -----------------------------------------------------------------------------------


async def test_a_join_is_placed_and_answered_without_any_time_passing(fleet: Fleet) -> None:
    await fleet.agent("s1", 2)
    async with fleet.allocator() as counters:
        answer = await fleet.join("lobby", "alice")
    assert isinstance(answer, results.JoinResult)
    assert (answer.server, answer.generation) == ("s1", 1)
    assert counters["decided-placed"] == 1
    assert fleet.state().rooms["lobby"].peers["alice"].status == "joined"


async def test_the_command_carries_the_intent_s_correlation_and_trace(fleet: Fleet) -> None:
    await fleet.agent("s1")
    async with fleet.allocator():
        await fleet.join("lobby", "alice")
    by_type = {type(message.data): message for entry in fleet.broker.entries if (message := decode(entry.data))}
    intent, command, answer = (by_type[kind] for kind in (intents.Join, commands.PlacePeer, results.JoinResult))
    assert command.causationid == intent.id
    assert command.correlationid == intent.correlation == answer.correlationid
    assert intent.traceparent
    assert command.traceparent
    assert command.traceparent.split("-")[1] == intent.traceparent.split("-")[1]
    assert command.source == "/mafalda/allocator/a1"


async def test_a_consume_on_another_worker_gets_its_relay(fleet: Fleet) -> None:
    await fleet.agent("s1", 2)
    async with fleet.allocator(policy="spread"):
        await fleet.join("lobby", "alice")
        await fleet.join("lobby", "bob")
        await fleet.produce("lobby", "alice", "mic")
        await fleet.consume("lobby", "bob", "mic")
        relay = await fleet.wait_for_payload(events.RelayOpened)
        await fleet.consume("lobby", "bob", "mic")
        await fleet.pass_time(3)
    assert (relay.source, relay.target) == (fleet.place("lobby", "alice"), fleet.place("lobby", "bob"))
    assert len(fleet.payloads(commands.OpenRelay)) == 1, "the second consume uses it"


async def test_consumes_on_a_second_worker_of_a_server_wait_for_the_pipe_into_it(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    async with fleet.allocator(policy="spread"):
        await fleet.join("lobby", "alice")
        remote = await fleet.agent("s2", 2)
        remote.obeys = True
        await fleet.join("lobby", "bob")
        await fleet.join("lobby", "carol")
        assert fleet.place("lobby", "bob").server == fleet.place("lobby", "carol").server == "s2"
        await fleet.produce("lobby", "alice", "mic")
        await asyncio.gather(fleet.consume("lobby", "bob", "mic"), fleet.consume("lobby", "carol", "mic"))
        await fleet.wait_for(lambda _: len(fleet.payloads(events.RelayOpened)) == 2)
    first, second = fleet.payloads(commands.OpenRelay)
    assert first.source == fleet.place("lobby", "alice")
    assert second.source == first.target, "from inside, and no timer was needed"


async def test_placements_and_failures_are_logged_at_info_and_the_rest_at_debug(fleet: Fleet) -> None:
    await fleet.agent("s1", 2)
    with capture_logs() as lines:
        async with fleet.allocator(policy="spread"):
            await fleet.join("lobby", "alice")
            await fleet.join("lobby", "bob")
            await fleet.produce("lobby", "alice", "mic")
            await fleet.consume("lobby", "bob", "mic")
            await fleet.wait_for_payload(events.RelayOpened)
            assert isinstance(await fleet.join("lobby", "alice"), results.Rejected)
            await fleet.pass_time(1)
    levels = {(line["message"], line["log_level"]) for line in lines if line["event"] == "decided"}
    assert levels == {("place-peer", "info"), ("open-relay", "debug"), ("rejected", "info")}


async def test_a_failed_relay_is_tried_again_by_a_later_consume(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 2)
    async with fleet.allocator(policy="spread"):
        await fleet.join("lobby", "alice")
        await fleet.join("lobby", "bob")
        await fleet.produce("lobby", "alice", "mic")
        agent.fails = {"mic"}
        first = await fleet.consume("lobby", "bob", "mic")
        await fleet.wait_for_payload(events.RelayFailed)
        rejected = results.Rejected.model_validate(
            {"intent": "consume", "error": {"code": "relay-failed", "message": "no"}}
        )
        subject = subjects.result("lobby", "bob", "consume")
        cause = next(m for e in fleet.broker.entries if (m := decode(e.data)).id == first)
        await agent.append(subject, rejected, cause)
        agent.fails = set()
        await fleet.pass_time(3)
        assert len(fleet.payloads(commands.OpenRelay)) == 1, "nobody waits for it any more"
        await fleet.consume("lobby", "bob", "mic")
        await fleet.wait_for_payload(events.RelayOpened)


async def test_a_dead_worker_s_peers_move_at_once(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 2)
    async with fleet.allocator():
        for peer in ("alice", "bob", "carol"):
            await fleet.join("lobby", peer)
        dead = fleet.place("lobby", "alice").worker
        await agent.kill(dead)
        await fleet.wait_for(lambda _: len(fleet.payloads(events.PeerMoved)) == 3)
    moved = fleet.payloads(events.PeerMoved)
    assert {event.peer for event in moved} == {"alice", "bob", "carol"}
    assert {(event.generation, event.cause) for event in moved} == {(2, "worker-died")}
    assert all(fleet.place("lobby", peer).worker != dead for peer in ("alice", "bob", "carol"))


async def test_an_unschedulable_peer_is_announced_once_and_placed_when_a_server_comes(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    async with fleet.allocator():
        await fleet.join("lobby", "alice")
        await agent.kill("s1-0")
        await fleet.wait_for_payload(events.PeerStranded)
        await fleet.pass_time(5)
        assert len(fleet.payloads(events.PeerStranded)) == 1
        await fleet.agent("s2", 1)
        await fleet.pass_time(2)
        moved = await fleet.wait_for_payload(events.PeerMoved)
    assert (moved.server, moved.generation) == ("s2", 2)


# --- silence -------------------------------------------------------------------------------------


async def test_a_server_that_stops_reporting_is_lost_and_its_peers_move(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    async with fleet.allocator():
        await fleet.join("lobby", "alice")
        await fleet.agent("s2", 1)
        await fleet.pass_time(6)
        assert fleet.payloads(events.ServerLost) == []
        del fleet.agents["s1"]
        agent.obeys = False
        await fleet.pass_time(4)
        moved = await fleet.wait_for_payload(events.PeerMoved)
    assert [event.server for event in fleet.payloads(events.ServerLost)] == ["s1"]
    assert (moved.server, moved.cause) == ("s2", "server-lost")


async def test_a_fresh_allocator_gives_servers_time_to_report(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    fleet.broker.loads.clear()
    async with fleet.allocator():
        await fleet.pass_time(4.5, reporting=False)
        assert fleet.payloads(events.ServerLost) == []
        await fleet.pass_time(2, reporting=False)
        await fleet.wait_for_payload(events.ServerLost)


class PartitionedBus(MemoryBus):
    """A bus that can lose its connection."""

    is_partitioned = False

    async def last_seq(self) -> int:
        if self.is_partitioned:
            raise BusUnavailable("cut off")
        return await super().last_seq()


async def test_an_allocator_that_was_cut_off_declares_no_server_lost(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    bus = PartitionedBus(fleet.broker)
    async with fleet.allocator(bus=bus) as counters:
        await fleet.pass_time(6)
        bus.is_partitioned = True
        await fleet.pass_time(20, reporting=False)
        bus.is_partitioned = False
        await fleet.pass_time(8)
    assert counters["partitioned"] > 0
    assert fleet.payloads(events.ServerLost) == []


async def test_no_server_is_lost_while_the_log_is_full_nor_when_there_is_room_again(fleet: Fleet) -> None:
    """Heartbeats go missing for longer than a server may miss them, but the log was full all the time."""
    await fleet.agent("s1", 1)
    await fleet.agent("s2", 1)
    async with fleet.allocator() as counters:
        await fleet.pass_time(6)
        await fleet.ask("lobby", "alice", intents.Join())
        with fleet.broker.full():
            await fleet.pass_time(20, reporting=False)
        await fleet.pass_time(8)
        assert isinstance(await fleet.answer("lobby", "alice", "join"), results.JoinResult)
    assert counters["append-failed-log-full"] > 0
    assert fleet.payloads(events.ServerLost) == []


async def test_a_refused_loss_is_given_up_and_decided_again_by_fresh_heartbeats(fleet: Fleet) -> None:
    """Only the loss itself was refused; once the log stores again, the silent server is lost and no other."""
    silent = await fleet.agent("s1", 1)
    alive = await fleet.agent("s2", 1)
    async with fleet.allocator() as counters:
        await fleet.pass_time(6)
        del fleet.agents["s1"]
        silent.obeys = False
        with fleet.broker.full():
            await fleet.pass_time(6)
        assert counters["append-failed-log-full"] == 1, "it is not tried again while nothing is stored"
        await fleet.pass_time(6)
        assert fleet.payloads(events.ServerLost) == []
        await alive.server_event(
            events.WorkerStarted(server="s2", incarnation="i1", worker=events.WorkerInfo(worker="s2-9", pid=9, slot=9))
        )
        await fleet.pass_time(3)
        assert fleet.payloads(events.ServerLost) == [], "its grace is not over"
        await fleet.pass_time(6)
    assert [event.server for event in fleet.payloads(events.ServerLost)] == ["s1"]


async def test_a_loss_that_is_not_confirmed_is_not_repeated_until_the_server_is_back(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    await fleet.agent("s2", 1)
    async with fleet.allocator() as counters:
        await fleet.pass_time(6)
        with fleet.broker.silent():
            await fleet.pass_time(4, reporting=False)
            async with asyncio.timeout(DEADLINE_S):
                while not counters["append-failed-bus-unavailable"]:  # noqa: ASYNC110 - counters wake nobody
                    await asyncio.sleep(0.01)  # the allocator's turn; the deadline ends the loop
        await fleet.pass_time(8)
    assert counters["append-failed-bus-unavailable"] == 1
    assert fleet.payloads(events.ServerLost) == []


async def test_a_join_is_rejected_in_its_inbox_while_the_log_is_full(fleet: Fleet) -> None:
    """Its intent was the last entry with room. Later the rejection is stored, not a placement that nobody waits for."""
    await fleet.agent("s1", 1)
    async with fleet.allocator(), fleet.bus.inbox() as inbox:
        subject = subjects.intent("lobby", "alice", "join")
        join = compose(intents.Join(), subject=subject, source="/test/alice")
        stored = fleet.broker.store(subject, encode(join), {REPLY_HEADER: inbox.subject})
        with fleet.broker.full():
            private = decode((await inbox.next(DEADLINE_S)).data)
            await fleet.pass_time(3)
        assert isinstance(private.data, results.Rejected)
        assert (private.data.intent, private.data.error.code, private.causationid) == ("join", "log-full", join.id)
        assert "max_bytes" in private.data.error.message
        await fleet.pass_time(2)
        answer = await fleet.answer("lobby", "alice", "join", after_seq=stored.seq)
        with pytest.raises(DeadlineExceeded):
            await inbox.next(0)
    assert isinstance(answer, results.Rejected)
    assert answer.error.code == "log-full"
    assert fleet.payloads(commands.PlacePeer) == []


class JumpyClock(ManualClock):
    """A clock that can jump while everybody sleeps, as when a machine is suspended."""

    jumped_s = 0.0

    def now(self) -> float:
        return super().now() + self.jumped_s


async def test_an_allocator_that_was_suspended_declares_no_server_lost() -> None:
    clock = JumpyClock(1000.0)
    async with Fleet(MemoryBroker(), clock).open() as fleet:
        await fleet.agent("s1", 1)
        async with fleet.allocator() as counters:
            await fleet.pass_time(6)
            clock.jumped_s = 3600
            await fleet.pass_time(0.5, reporting=False)
            await fleet.pass_time(6)
        assert counters["suspended"] == 1
        assert fleet.payloads(events.ServerLost) == []


# --- starting ------------------------------------------------------------------------------------


async def test_what_was_asked_while_no_allocator_ran_is_done_at_the_start(fleet: Fleet) -> None:
    await fleet.agent("s1", 2)
    await fleet.ask("lobby", "alice", intents.Join())
    await fleet.ask("lobby", "bob", intents.CloseProducer(producer="x"))
    async with fleet.allocator():
        await fleet.pass_time(0.25)
        assert isinstance(await fleet.answer("lobby", "alice", "join"), results.JoinResult)
        assert (await fleet.answer("lobby", "bob", "close-producer")).error.code == "not-joined"


async def test_a_restarted_allocator_goes_on_where_the_other_ended(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 2)
    async with fleet.allocator():
        await fleet.join("lobby", "alice")
        place = fleet.place("lobby", "alice")
    await agent.kill(place.worker)
    async with fleet.allocator("a2"):
        await fleet.pass_time(0.25)
        moved = await fleet.wait_for_payload(events.PeerMoved)
        again = await fleet.join("lobby", "alice")
    assert moved.generation == 2
    assert isinstance(again, results.Rejected)
    assert again.error.code == "already-exists"


async def test_a_join_before_the_first_report_of_an_old_server_waits_for_it(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    fleet.broker.loads.clear()
    async with fleet.allocator() as counters:
        await fleet.ask("lobby", "alice", intents.Join())
        await fleet.pass_time(0.5, reporting=False)
        assert counters["decided-waiting-for-reports"] >= 1
        await agent.report()
        await fleet.pass_time(0.25, reporting=False)
        assert isinstance(await fleet.answer("lobby", "alice", "join"), results.JoinResult)


async def test_an_unknown_policy_is_refused_at_once(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="no such policy: 'lb'; there are pack, region, spread, two-choices"):
        await run_allocator(fleet.bus, AllocatorConfig(policy="lb"))


# --- bad input -----------------------------------------------------------------------------------

POISON = (b"", b"\xff\xfe", b"[1]", b'{"id":"x","type":"mafalda.intent.dance.v1"}', b'{"id":"y","data":{}}')
SUBJECTS = (
    "mafalda.room.lobby.peer.mallory.intent.join",
    "mafalda.room.lobby.peer.mallory.result.join",
    "mafalda.room.lobby.event.peer-left",
    "mafalda.command.lobby.s1.place-peer",
    "mafalda.server.s1.event.worker-died",
)


async def test_unreadable_intents_block_no_others_and_are_rejected(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    async with fleet.allocator() as counters:
        await fleet.join("lobby", "alice")
        for subject in SUBJECTS:
            for raw in POISON:
                await fleet.poison(subject, raw)
        answer = await fleet.join("lobby", "bob")
        await fleet.wait_for(lambda _: len(fleet.payloads(results.Rejected)) == len(POISON))
    assert isinstance(answer, results.JoinResult), "the room's commands go on after a poisoned one"
    codes = [rejected.error.code for rejected in fleet.payloads(results.Rejected)]
    assert codes == ["malformed-message"] * 3 + ["unknown-type", "malformed-message"]
    assert counters["unreadable-command"] == counters["unreadable-event"] / 2 == len(POISON)
    assert counters["broken-fold"] == counters["broken-decision"] == 0


async def test_rejections_have_ids_that_follow_from_what_they_reject(fleet: Fleet) -> None:
    async with fleet.allocator():
        named = await fleet.ask("lobby", "bob", intents.Leave())
        nameless = await fleet.poison("mafalda.room.lobby.peer.bob.intent.leave", b"nonsense")
        await fleet.wait_for(lambda _: len(fleet.payloads(results.Rejected)) == 2)
    ids = [decode(entry.data).id for entry in fleet.broker.entries if ".result." in entry.subject]
    assert ids == [derived_id("rejected", "lobby", "bob", named), derived_id("rejected", "seq", nameless)]


async def test_illegal_ids_are_rejected_where_nats_allows_the_result(fleet: Fleet) -> None:
    async with fleet.allocator() as counters:
        for peer in ("älice", "x" * 80, "*"):
            await fleet.poison(f"mafalda.room.lobby.peer.{peer}.intent.join", b'{"id":"i"}')
        await fleet.wait_for(lambda _: len(fleet.payloads(results.Rejected)) == 2)
        await fleet.pass_time(2)
    assert [rejected.error.code for rejected in fleet.payloads(results.Rejected)] == ["illegal-id"] * 2
    assert counters["decided-unanswerable"] == 1


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("mafalda.room.lobby.peer.*.intent.join", "illegal-id"),
        ("mafalda.room.lobby.peer.alice.intent.*", "malformed-message"),
    ],
)
async def test_what_cannot_be_answered_on_a_subject_is_answered_in_the_inbox(
    fleet: Fleet, subject: str, code: str
) -> None:
    join = compose(intents.Join(), subject=subject, source="/client", id="i")
    async with fleet.allocator() as counters, fleet.bus.inbox() as inbox:
        await fleet.poison(subject, encode(join), {REPLY_HEADER: inbox.subject})
        answer = decode((await inbox.next(DEADLINE_S)).data)
        await fleet.poison(subject, encode(join), {REPLY_HEADER: "mafalda.command.lobby.s1.place-peer"})
        await fleet.poison(subject, encode(join))
        await fleet.pass_time(2)
    assert isinstance(answer.data, results.Rejected)
    assert (answer.data.error.code, answer.causationid, answer.correlationid) == (code, "i", "i")
    assert counters["refused-privately"] == 1
    assert fleet.payloads(results.Rejected) == []


async def test_poisoned_loads_and_loads_of_the_past_are_only_counted(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    async with fleet.allocator() as counters:
        agent.incarnation = "i0"
        await agent.report()
        fleet.broker.send(Delivery("mafalda.server.s1.load", b"\x00"))
        await fleet.pass_time(0.25, reporting=False)
        assert isinstance(await fleet.join("lobby", "alice"), results.JoinResult)
    assert (counters["stale-load"], counters["unreadable-load"]) == (1, 1)


class LoadedDice:
    def randrange(self, stop: int, /) -> int:
        raise RuntimeError("the rng fell off the table")


async def test_a_decision_that_breaks_stops_nothing_else(fleet: Fleet) -> None:
    await fleet.agent("s1", 2)
    ready, config = asyncio.Event(), AllocatorConfig(policy="two-choices")
    work = run_allocator(fleet.bus, config, clock=fleet.clock, rng=lambda _: LoadedDice(), ready=ready)
    task = asyncio.create_task(work, name="allocator")
    await asyncio.wait_for(ready.wait(), DEADLINE_S)
    await fleet.ask("lobby", "alice", intents.Join())
    await fleet.ask("lobby", "bob", intents.Leave())
    assert (await fleet.answer("lobby", "bob", "leave")).error.code == "not-joined"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- a difficult log -----------------------------------------------------------------------------


class ForgetfulBus(MemoryBus):
    """A log that has forgotten a room's commands: they expired."""

    conflicts = 0

    async def append(self, subject: str, message: Message, *, expect: Expect | None = None, **other: Any) -> Appended:
        if expect and expect.last_seq:
            self.conflicts += 1
            raise Conflict("another writer was first", actual=0)
        return await super().append(subject, message, **other)


async def test_commands_that_expired_from_the_log_do_not_block_their_room(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    bus = ForgetfulBus(fleet.broker)
    async with fleet.allocator(bus=bus):
        await fleet.join("lobby", "alice")
        assert isinstance(await fleet.join("lobby", "bob"), results.JoinResult)
    assert bus.conflicts == 1


class ClumsyBus(MemoryBus):
    """A log that cannot be reached at first."""

    failures = 2

    async def append(self, subject: str, message: Message, **other: Any) -> Appended:
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("the log did not confirm a message")
        return await super().append(subject, message, **other)


async def test_an_unreachable_log_delays_a_decision_and_loses_none(fleet: Fleet) -> None:
    await fleet.agent("s1", 1)
    async with fleet.allocator(bus=ClumsyBus(fleet.broker)) as counters:
        await fleet.ask("lobby", "alice", intents.Join())
        await fleet.pass_time(4)
        assert isinstance(await fleet.answer("lobby", "alice", "join"), results.JoinResult)
    assert counters["append-failed-bus-unavailable"] == 2
    assert len(fleet.payloads(commands.PlacePeer)) == 1


async def test_a_leave_without_a_place_ends_the_membership(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    async with fleet.allocator():
        await fleet.join("lobby", "alice")
        await agent.kill("s1-0")
        await fleet.wait_for_payload(events.PeerStranded)
        await fleet.ask("lobby", "alice", intents.Leave())
        assert isinstance(await fleet.answer("lobby", "alice", "leave"), results.Done)
        assert "lobby" not in fleet.state().rooms
        await fleet.agent("s2", 1)
        again = await fleet.join("lobby", "alice")
    assert isinstance(again, results.JoinResult)
    assert again.generation == 2, "generations go on over memberships"
    assert fleet.place("lobby", "alice") == Place(server="s2", worker="s2-0")
