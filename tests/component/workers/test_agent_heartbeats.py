"""Heartbeats wait for nothing; a worker that does not answer is reported, and killed alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
import structlog

from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.messages import events
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.contract.messages.payload import Place
from mafalda.workers.config import AgentConfig
from tests.component.workers.agent_world import DEADLINE_S, Fleet

LOADS = subjects.load("s1")
NEVER_S = 3600


@contextmanager
def stopped(fleet: Fleet, place: Place) -> Iterator[int]:
    """A worker that neither answers nor forwards anything; it goes on at the end, if it still lives."""
    pid = fleet.agents[place.server].supervisor.alive[place.worker].worker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if place.worker in fleet.agents[place.server].supervisor.alive:
            os.kill(pid, signal.SIGCONT)


async def report(loads: AsyncIterator[Delivery], fits: Callable[[ServerLoad], bool] = lambda _: True) -> ServerLoad:
    """The next load report that fits."""
    async with asyncio.timeout(DEADLINE_S):
        async for delivery in loads:
            load = decode(delivery.data).data
            assert isinstance(load, ServerLoad)
            if fits(load):
                return load
    raise AssertionError("no more reports")


def of_worker(load: ServerLoad, place: Place) -> WorkerLoad:
    (found,) = [worker for worker in load.workers if worker.worker == place.worker]
    return found


async def test_a_worker_that_does_not_answer_delays_no_heartbeat_and_is_reported(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2, worker_probe_timeout_s=0.3, worker_unresponsive_kill_s=NEVER_S)
    hung, healthy = fleet.places("s1")
    alice = await fleet.join("lobby", "alice", hung)
    await alice.transport("send")
    async with fleet.bus.listen(LOADS) as loads:
        await report(loads)
        with stopped(fleet, hung) as pid:
            first = await report(loads, lambda load: of_worker(load, hung).state == "unresponsive")
            second = await report(loads)
            worker = of_worker(second, hung)
            assert (worker.pid, worker.transports, worker.state) == (pid, 1, "unresponsive")
            assert worker.channel_latency_s > of_worker(first, hung).channel_latency_s > 0.3
            assert of_worker(second, healthy).state == "ready"
        again = await report(loads, lambda load: of_worker(load, hung).state == "ready")
        assert again.incarnation == first.incarnation
    assert fleet.appended(events.WorkerDied) == []


async def test_an_unresponsive_worker_is_killed_alone_and_replaced(fleet: Fleet) -> None:
    await fleet.start("s1", workers=2, worker_probe_timeout_s=0.2, worker_unresponsive_kill_s=1)
    hung, healthy = fleet.places("s1")
    healthy_pid = fleet.agents["s1"].supervisor.alive[healthy.worker].worker.pid
    await fleet.join("lobby", "alice", hung)
    await fleet.join("lobby", "bob", healthy)
    with structlog.testing.capture_logs() as lines, stopped(fleet, hung) as pid:
        died = await fleet.wait_appended(events.WorkerDied)
        started = await fleet.wait_appended(events.WorkerStarted)
    assert (died.worker, died.signal) == (hung.worker, "SIGKILL")
    assert (started.worker.slot, started.worker.worker != hung.worker) == (0, True)
    assert fleet.agents["s1"].supervisor.alive[healthy.worker].worker.pid == healthy_pid
    (killed,) = [line for line in lines if line["action"] == "worker_unresponsive_killed"]
    assert (killed["worker_id"], killed["worker_pid"]) == (hung.worker, pid)
    assert len(fleet.appended(events.WorkerDied)) == 1
    assert fleet.appended(events.PeerLeft) == []
    await fleet.equals_the_log()


async def test_a_full_log_stops_no_heartbeat_and_skips_samples(fleet: Fleet) -> None:
    with structlog.testing.capture_logs() as lines:
        await fleet.start("s1", sample_interval_s=0.1)
        async with fleet.bus.listen(LOADS) as loads:
            with fleet.broker.full():
                for _ in range(5):
                    await report(loads)
                await report(loads, lambda load: load.append_error == "log-full")
            after = len(fleet.broker.entries)
            await report(loads, lambda load: load.append_error is None)
        await fleet.wait_appended(events.LoadSampled, after_seq=after)
    assert {line["outcome"] for line in lines if line["action"] == "load_unsampled"} == {"log-full"}


async def test_a_log_that_does_not_answer_stops_no_heartbeat(fleet: Fleet) -> None:
    await fleet.start("s1", sample_interval_s=0.1)
    async with fleet.bus.listen(LOADS) as loads:
        with fleet.broker.silent():
            for _ in range(5):
                await report(loads)
        after = len(fleet.broker.entries)
    await fleet.wait_appended(events.LoadSampled, after_seq=after)


async def test_what_happened_while_the_log_was_full_is_appended_when_there_is_room(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    agent = fleet.agents["s1"]
    with fleet.broker.full():
        os.kill(agent.supervisor.alive[place.worker].worker.pid, signal.SIGKILL)
        await fleet.until(lambda: place.worker not in agent.supervisor.alive and agent.supervisor.alive, "a new one")
        assert fleet.appended(events.WorkerDied) == []
    assert (await fleet.wait_appended(events.WorkerDied)).worker == place.worker
    await fleet.wait_appended(events.WorkerStarted)
    await fleet.equals_the_log()


def test_a_worker_is_not_killed_before_it_is_unresponsive() -> None:
    with pytest.raises(ValueError, match="greater than worker_probe_timeout_s"):
        AgentConfig(worker_probe_timeout_s=2, worker_unresponsive_kill_s=2)
