"""What breaks: workers, servers, the bus, places that move; and that nothing is left when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from mafalda import errors
from mafalda.bus.protocol import Appended
from mafalda.contract import subjects
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import ConnectPipe, PipeEnd, QueryRoom, RoomSnapshot
from mafalda.mediasoup import Router
from mafalda.mediasoup.install import find_worker_bin
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.workers.agent import run_agent
from mafalda.workers.config import AgentConfig
from tests.component.workers.agent_world import Client, Fleet, open_fleet

RMEM_MAX = int(Path("/proc/sys/net/core/rmem_max").read_text())


def kill_worker(fleet: Fleet, server: str, worker: str) -> int:
    """Kill -9, as from outside."""
    pid = fleet.agents[server].supervisor.alive[worker].worker.pid
    os.kill(pid, signal.SIGKILL)
    return pid


async def across(fleet: Fleet) -> tuple[Client, Client]:
    """Alice on s1 is heard by Bob on s2."""
    await fleet.start("s1")
    await fleet.start("s2")
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    alice, bob = await fleet.join("lobby", "alice", here), await fleet.join("lobby", "bob", there)
    await alice.transport("send")
    await bob.transport("receive")
    await alice.produce("mic", "send")
    sent = await bob.send(bob.consume_intent("bob-mic", "mic", "receive"))
    await fleet.relay("lobby", "mic", here, there)
    await bob.answer(sent, results.ConsumeResult)
    return alice, bob


async def test_a_killed_worker_is_reported_at_once_and_replaced(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    first, second = fleet.places("s1")
    await fleet.join("lobby", "alice", first)

    pid = kill_worker(fleet, "s1", first.worker)

    died = await fleet.wait_appended(events.WorkerDied)
    assert (died.worker, died.signal, died.exit_code) == (first.worker, "SIGKILL", None)
    started = await fleet.wait_appended(events.WorkerStarted)
    assert started.worker.worker not in (first.worker, second.worker)
    assert (started.worker.slot, started.worker.pid != pid) == (0, True)
    await fleet.equals_the_log()


async def test_a_worker_s_end_is_in_the_log_before_the_start_of_the_next(fleet: Fleet) -> None:
    class SlowToAnnounceDeaths(MemoryBus):
        """Stores the first ``WorkerDied`` only when it is released."""

        released = asyncio.Event()

        async def append(self, subject: str, message: Message, **options: Any) -> Appended:
            if isinstance(message.data, events.WorkerDied):
                await self.released.wait()
            return await super().append(subject, message, **options)

    bus = SlowToAnnounceDeaths(fleet.broker, name="s1")
    agent = await fleet.start("s1", bus=bus, restart_backoff_s=0.01)
    (first,) = fleet.places("s1")
    kill_worker(fleet, "s1", first.worker)
    await fleet.until(lambda: fleet.places("s1") not in ([], [first]), "another worker")
    for _ in range(10):
        await asyncio.sleep(0)
    bus.released.set()
    await fleet.wait_appended(events.WorkerStarted)
    lifecycle = [it for _, it in fleet.entries() if isinstance(it.data, events.WorkerDied | events.WorkerStarted)]
    assert [type(it.data) for it in lifecycle] == [events.WorkerDied, events.WorkerStarted]
    assert agent.supervisor.alive


async def test_a_peer_of_a_dead_worker_comes_back_under_the_same_names(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    first, second = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", first)
    await alice.transport("send")
    await alice.produce("mic", "send")
    kill_worker(fleet, "s1", first.worker)
    await fleet.wait_appended(events.WorkerDied)

    await fleet.place("lobby", "alice", second, generation=2, cause="worker-died")

    moved = await fleet.wait_appended(events.PeerMoved)
    assert (moved.worker, moved.generation, moved.cause) == (second.worker, 2, "worker-died")
    await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)
    await alice.transport("send")
    await alice.produce("mic", "send")
    await fleet.equals_the_log()


async def test_consumers_of_a_dead_origin_are_closed_and_can_be_made_again(fleet: Fleet) -> None:
    alice, bob = await across(fleet)
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")

    kill_worker(fleet, "s1", here.worker)

    closed = await fleet.wait_appended(events.ConsumerClosed)
    assert (closed.consumer, closed.reason) == ("bob-mic", "worker-died")
    await fleet.equals_the_log()
    await fleet.wait_appended(events.WorkerStarted)
    (again,) = await fleet.until(lambda: fleet.places("s1"), "a new worker")
    await fleet.place("lobby", "alice", again, generation=2, cause="worker-died")
    await fleet.wait_appended(results.JoinResult, lambda it: it.generation == 2)
    await alice.transport("send")
    await alice.produce("mic", "send")
    sent = await bob.send(bob.consume_intent("bob-mic", "mic", "receive"))
    await fleet.relay("lobby", "mic", again, there, generation=2)
    assert (await bob.answer(sent, results.ConsumeResult)).relayed
    await fleet.equals_the_log()


async def test_the_source_forgets_a_dead_target(fleet: Fleet) -> None:
    await across(fleet)
    (there,) = fleet.places("s2")
    source = fleet.agents["s1"]
    assert source.relay_sources.transports()

    kill_worker(fleet, "s2", there.worker)

    await fleet.until(lambda: not source.relay_sources.transports(), "the pipe to nowhere is closed")
    await fleet.equals_the_log()


async def test_a_dead_hop_of_a_tree_ends_what_hung_on_it(fleet: Fleet) -> None:
    await fleet.start("s1")
    await fleet.start("s2", workers=2)
    (here,), (there, beyond) = fleet.places("s1"), fleet.places("s2")
    alice = await fleet.join("lobby", "alice", here)
    bob, carol = await fleet.join("lobby", "bob", there), await fleet.join("lobby", "carol", beyond)
    await alice.transport("send")
    await alice.produce("mic", "send")
    for peer, source, target in ((bob, here, there), (carol, there, beyond)):
        await peer.transport("receive")
        sent = await peer.send(peer.consume_intent("mic-here", "mic", "receive"))
        await fleet.relay("lobby", "mic", source, target)
        await peer.answer(sent, results.ConsumeResult)

    kill_worker(fleet, "s2", there.worker)

    # Carol's worker lives, and so does the origin: only the way between them is gone.
    closed = await fleet.wait_appended(events.ConsumerClosed)
    assert (closed.consumer, closed.reason) == ("mic-here", "worker-died")
    await fleet.equals_the_log()
    sent = await carol.send(carol.consume_intent("mic-here", "mic", "receive"))
    await fleet.relay("lobby", "mic", here, beyond)
    assert (await carol.answer(sent, results.ConsumeResult)).relayed
    await fleet.equals_the_log()


async def test_a_moved_peer_is_dropped_where_it_was(fleet: Fleet) -> None:
    await across(fleet)
    (there,) = fleet.places("s2")

    await fleet.place("lobby", "alice", there, generation=2, cause="drain")

    closed = await fleet.wait_appended(events.ConsumerClosed)
    assert (closed.consumer, closed.reason) == ("bob-mic", "peer-moved")
    await fleet.wait_appended(events.PeerMoved)
    await fleet.until(lambda: not fleet.agents["s1"].routers.all(), "nothing is left on s1")
    await fleet.equals_the_log()


async def test_a_placement_of_an_older_generation_is_ignored(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    first, second = fleet.places("s1")
    await fleet.place("lobby", "alice", first, generation=3)
    await fleet.wait_appended(results.JoinResult)

    await fleet.place("lobby", "alice", second, generation=2)
    await fleet.place("lobby", "alice", second, generation=3)
    await fleet.join("lobby", "bob", second)  # comes after both

    assert {it.peer for it in (await fleet.inventory("s1")).peers if it.worker == second.worker} == {"bob"}
    await fleet.equals_the_log()


async def test_a_command_to_a_worker_that_is_dead_is_passed_over(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2)
    first, second = fleet.places("s1")
    kill_worker(fleet, "s1", first.worker)
    await fleet.wait_appended(events.WorkerDied)

    await fleet.place("lobby", "alice", first)
    await fleet.join("lobby", "bob", second)

    assert [it.peer for it in fleet.appended(events.PeerJoined)] == ["bob"]
    await fleet.equals_the_log()


async def test_a_peer_is_rejected_when_its_worker_does_not_answer_and_may_join_again(fleet: Fleet) -> None:
    await fleet.start("s1", request_timeout_s=0.3)
    (place,) = fleet.places("s1")
    pid = fleet.agents["s1"].supervisor.alive[place.worker].worker.pid
    alice = Client(fleet, "lobby", "alice")
    os.kill(pid, signal.SIGSTOP)
    try:
        join = await alice.send(intents.Join())
        await fleet.place("lobby", "alice", place, join=join.id)
        left = await fleet.wait_appended(events.PeerLeft)
        refused = await fleet.wait_appended(results.Rejected)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (left.peer, left.reason) == ("alice", "evicted")
    assert (refused.intent, refused.error.code) == ("join", "deadline-exceeded")
    assert "lobby" not in fleet.state().rooms

    await fleet.join("hall", "alice", place)


async def test_an_agent_that_ends_announces_it_and_others_close_its_relays(fleet: Fleet) -> None:
    async with open_fleet() as doomed:
        doomed.broker = fleet.broker
        await doomed.start("s1")
        (here,) = doomed.places("s1")
        alice = await doomed.join("lobby", "alice", here)
        await alice.transport("send")
        await alice.produce("mic", "send")
        await fleet.start("s2")
        (there,) = fleet.places("s2")
        bob = await fleet.join("lobby", "bob", there)
        await bob.transport("receive")
        sent = await bob.send(bob.consume_intent("bob-mic", "mic", "receive"))
        await fleet.relay("lobby", "mic", here, there)
        await bob.answer(sent, results.ConsumeResult)

    assert (await fleet.wait_appended(events.ServerStopped)).server == "s1"
    assert (await fleet.wait_appended(events.ConsumerClosed)).consumer == "bob-mic"
    await fleet.equals_the_log()


async def test_an_incarnation_that_was_given_up_drops_all_and_begins_anew() -> None:
    broker = MemoryBroker()
    fleet = Fleet(broker, None)  # type: ignore[arg-type]
    ready = asyncio.Event()
    config = AgentConfig(server="s1", workers=1, worker_bin=find_worker_bin())
    agent = asyncio.create_task(run_agent(MemoryBus(broker), config, ready=ready))
    try:
        await asyncio.wait_for(ready.wait(), 10)
        (first,) = fleet.appended(events.ServerStarted)
        pid = first.workers[0].pid

        lost = events.ServerLost(server="s1", incarnation=first.incarnation)
        await fleet.append(lost, subjects.server_event("s1", lost.action))

        again = await fleet.wait_appended(events.ServerStarted, lambda it: it.incarnation != first.incarnation)
        assert {it.worker for it in again.workers}.isdisjoint(it.worker for it in first.workers)
        assert not psutil.pid_exists(pid)
        assert not fleet.appended(events.ServerStopped)
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
    assert [it.incarnation for it in fleet.appended(events.ServerStopped)] == [again.incarnation]
    assert not [child for child in psutil.Process().children() if "mediasoup" in child.name()]


async def test_of_two_agents_under_one_name_the_later_stays(fleet: Fleet) -> None:
    config = AgentConfig(server="s1", workers=1, worker_bin=find_worker_bin())
    ready = asyncio.Event()
    first = asyncio.create_task(run_agent(fleet.bus, config, ready=ready))
    await asyncio.wait_for(ready.wait(), 10)

    later = await fleet.start("s1")

    with pytest.raises(errors.AlreadyExists):
        await asyncio.wait_for(first, 10)
    assert later.supervisor.alive
    assert not fleet.appended(events.ServerStopped)


async def test_media_outlives_the_bus_and_what_was_missed_is_caught_up_with(fleet: Fleet) -> None:
    alice, bob = await across(fleet)
    source, target = fleet.agents["s1"], fleet.agents["s2"]

    with fleet.broker.down():
        with pytest.raises(errors.BusUnavailable):
            await alice.send(intents.PauseProducer(producer="mic"))
        assert await source.inventory() == await source.inventory()
        assert [it.peer for it in (await source.inventory()).peers] == ["alice"]
        assert [it.producer for it in (await target.inventory()).relays] == ["mic"]
        # What happens meanwhile is said afterwards.
        kill_worker(fleet, "s2", next(iter(target.supervisor.alive)))
        await fleet.until(lambda: not target.sessions.by_key, "the peer of the dead worker is dropped")
        assert not fleet.appended(events.WorkerDied)

    assert (await fleet.wait_appended(events.WorkerDied)).server == "s2"
    await alice.ask(intents.PauseProducer(producer="mic"), results.Done)
    await fleet.equals_the_log()
    assert bob.peer not in {it.peer for it in (await target.inventory()).peers}


async def test_a_worker_that_keeps_dying_is_reported_and_not_hammered(fleet: Fleet, tmp_path: Path) -> None:
    worker = find_worker_bin()
    script, lives = tmp_path / "sometimes-a-worker", tmp_path / "lives"
    # The first life is a real worker; all others end at once.
    script.write_text(f'#!/bin/sh\necho >> "{lives}"\n[ $(wc -l < "{lives}") -eq 1 ] && exec "{worker}" "$@"\nexit 3\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    config: dict[str, Any] = {"restart_backoff_s": 0.05, "restart_backoff_max_s": 0.4}
    with structlog.testing.capture_logs() as logs:
        agent = await fleet.start("s1", worker_bin=script, **config)
        kill_worker(fleet, "s1", next(iter(agent.supervisor.alive)))
        await fleet.until(lambda: any(it.get("action") == "worker_crash_loop" for it in logs), "the loop is reported")

    loops = [it["next_start_in_s"] for it in logs if it.get("action") == "worker_crash_loop"]
    assert loops[0] >= 4 * config["restart_backoff_s"]
    assert not agent.supervisor.alive


async def test_an_agent_without_any_worker_does_not_start() -> None:
    config = AgentConfig(server="s1", workers=2, worker_bin=Path("/bin/false"), restart_backoff_s=5)
    broker = MemoryBroker()

    with pytest.raises(errors.Broken):
        await run_agent(MemoryBus(broker), config)

    assert not broker.entries


async def test_load_is_measured_and_sampled(fleet: Fleet) -> None:
    async with fleet.bus.listen("mafalda.server.*.load") as loads:
        agent = await fleet.start("s1", sample_interval_s=0.3, rtc_min_port=20000, rtc_max_port=20999)
        (place,) = fleet.places("s1")
        alice = await fleet.join("lobby", "alice", place)
        await alice.transport("send")
        await alice.produce("mic", "send")
        await alice.consume("self", "mic", "send")
        async with asyncio.timeout(10):
            async for delivery in loads:
                load = decode(delivery.data).data
                if isinstance(load, ServerLoad) and load.workers and load.workers[0].consumers:
                    found = load
                    break

    (worker,) = found.workers
    assert (found.server, found.incarnation, worker.worker) == ("s1", agent.incarnation, place.worker)
    assert (worker.routers, worker.transports, worker.producers, worker.consumers) == (1, 1, 1, 1)
    assert worker.memory_bytes > 1_000_000
    assert 0 < worker.channel_latency_s < 5
    assert found.ports_left == 999  # one of a thousand, shared by all transports
    assert found.udp_buffer_bytes == min(4 * 1024 * 1024, RMEM_MAX)
    sampled = await fleet.wait_appended(events.LoadSampled)
    assert sampled.load.server == "s1"


async def test_no_secret_is_in_the_log(fleet: Fleet) -> None:
    """ICE passwords and SRTP keys are searched for in every stored byte, and in the lines that agents write."""
    with structlog.testing.capture_logs() as lines:
        alice, _ = await across(fleet)
    secrets = []
    for room_peer, actor in ((key, it) for agent in fleet.agents.values() for key, it in agent.sessions.by_key.items()):
        assert room_peer[0] == "lobby"
        secrets += [actor.objects.webrtc_transport(id).ice_parameters.password for id in actor.objects.transports]
    for agent in fleet.agents.values():
        ends = [*agent.target_pipes.transports(), *agent.relay_sources.transports()]
        secrets += [end.srtp_parameters.key_base64 for end in ends if end.srtp_parameters]
    full = await alice.transport("another")
    assert full.ice_parameters
    secrets.append(full.ice_parameters.password)
    await alice.query(QueryRoom(), RoomSnapshot)

    assert len(secrets) == 5
    stored = b"\n".join(entry.data for entry in fleet.broker.entries)
    assert b"iceCandidates" in stored
    assert not [secret for secret in secrets if secret.encode() in stored or secret in repr(lines)]
    assert len(lines) > 5


async def test_a_session_that_fails_once_before_it_is_ready_is_started_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    acquire, failures = agent.routers.acquire, [RuntimeError("a bug")]

    async def fail_first(*args: Any) -> Router:
        if failures:
            raise failures.pop()
        return await acquire(*args)

    monkeypatch.setattr(agent.routers, "acquire", fail_first)
    alice = await fleet.join("lobby", "alice", place)

    await alice.transport("send")
    assert not fleet.appended(events.PeerLeft)
    await fleet.equals_the_log()


async def test_a_peer_whose_session_keeps_failing_is_rejected_and_others_are_not_disturbed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    await fleet.join("lobby", "bob", place)

    async def fail(*_: Any) -> Router:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(agent.routers, "acquire", fail)
        with pytest.raises(errors.MafaldaError, match="internal error"):
            await fleet.join("lobby", "alice", place)

    left = await fleet.wait_appended(events.PeerLeft)
    assert (left.peer, left.generation, left.reason) == ("alice", 1, "evicted")
    assert set(agent.sessions.by_key) == {("lobby", "bob")}
    await fleet.equals_the_log()


async def test_a_room_that_cannot_be_read_at_first_is_read_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    last_seq, failures = agent.log_reader.last_seq, [RuntimeError("a bug")]

    async def fail_first() -> int:
        if failures:
            raise failures.pop()
        return await last_seq()

    monkeypatch.setattr(agent.log_reader, "last_seq", fail_first)

    await fleet.join("lobby", "alice", place)
    await fleet.equals_the_log()


async def test_the_end_of_a_pipe_that_cannot_be_connected_is_closed(fleet: Fleet) -> None:
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    await fleet.join("lobby", "alice", place)
    request = ConnectPipe(
        room="lobby", source=place, target=Place(server="s2", worker="w"), end=PipeEnd(ip="no address", port=7)
    )

    with pytest.raises(errors.MafaldaError):
        await agent.relay_sources.connect_pipe(request)

    router = agent.routers.existing("lobby", place.worker)
    assert router is not None
    assert (await router.dump())["transportIds"] == []
    assert not agent.relay_sources.transports()


async def test_a_pipe_is_closed_before_the_next_one_between_the_same_workers_is_made(fleet: Fleet) -> None:
    """Both hold the room's router under one key: the end of the first must not release the second one's hold."""
    agent = await fleet.start("s1")
    (place,) = fleet.places("s1")
    await fleet.join("lobby", "alice", place)
    target = Place(server="s2", worker="w")
    request = ConnectPipe(room="lobby", source=place, target=target, end=PipeEnd(ip="127.0.0.1", port=7))
    await agent.relay_sources.connect_pipe(request)
    (old,) = agent.relay_sources.transports()
    router = agent.routers.existing("lobby", place.worker)
    assert router is not None
    order: list[str] = []
    closing, close = asyncio.Event(), old.close

    async def close_slowly() -> None:
        closing.set()
        for _ in range(50):  # far more requests to the worker than a new pipe takes
            await router.dump()
        await close()
        order.append("closed")

    old.close = close_slowly  # type: ignore[method-assign]
    agent.relay_sources.place_gone(target)
    await closing.wait()
    await agent.relay_sources.connect_pipe(request)
    order.append("connected")

    await fleet.until(lambda: len(order) == 2, "both are done")
    assert order == ["closed", "connected"]
    (new,) = agent.relay_sources.transports()
    assert not new.closed
