"""Relays between hosts, as the links between them show."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.contract import subjects
from mafalda.contract.messages import events, results
from mafalda.contract.messages.payload import Place
from mafalda.contract.reading import read_message
from tests.hosts.fleet import START_TIMEOUT_S, HostFleet, open_fleet, report_of
from tests.hosts.network import Lossy, network, why_not

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "hosts can be made"),
]
AUDIO = ("--audio-publishers", "1", "--audio-frame-ms", "20", "--join-rate", "0")


def assert_crossed_once(crossed: int, media: dict[str, float]) -> None:
    """So many packets are at most one stream with its RTCP. That they are no fewer follows from what viewers heard."""
    assert 0 < crossed < 1.3 * media["packets_sent"]


async def test_a_producer_crosses_to_each_host_once_whatever_the_number_of_viewers() -> None:
    with network("abc") as hosts:
        async with open_fleet(hosts, workers=2) as fleet:
            before = fleet.received()
            report = fleet.load_report(*AUDIO, "--viewers", "18", "--duration", "6")
            after = fleet.received()
    assert report["ok"], report["failures"]
    assert min(report["viewers_by_server"].values()) >= 4
    origin, *others = sorted(after[name] - before[name] for name in after)
    assert origin < 0.2 * others[0], "RTCP only"
    for crossed in others:
        assert_crossed_once(crossed, report["media"])


async def test_a_producer_enters_a_region_once() -> None:
    with network("abc") as hosts:
        async with open_fleet(hosts, workers=1, regions={"a": "eu", "b": "us", "c": "us"}) as fleet:
            before = hosts.hosts["a"].received(), hosts.hosts["a"].sent()
            report = fleet.load_report(*AUDIO, "--viewers", "9", "--duration", "6")
            after = hosts.hosts["a"].received(), hosts.hosts["a"].sent()
    assert report["ok"], report["failures"]
    assert set(report["viewers_by_server"]) == {"a", "b", "c"}
    assert_crossed_once(sum(after) - sum(before), report["media"])  # between eu and us, in either direction


async def test_what_is_lost_between_hosts_is_sent_again() -> None:
    bad = Lossy(delay_s=0.03, loss_ratio=0.05)
    with network("ab", {("a", "b"): bad}) as hosts:
        async with open_fleet(hosts, workers=1) as fleet:
            report = fleet.load_report(*AUDIO, "--video-publishers", "1", "--viewers", "4", "--duration", "10")
        cable = hosts.cables["a", "b"]
    assert report["ok"], report["failures"]
    assert set(report["viewers_by_server"]) == {"a", "b"}
    assert cable.dropped > 0.03 * cable.carried
    # Half of the viewers are behind the cable, so unrepaired it would be 0.025. On a machine without spare CPU some
    # retransmissions come too late.
    assert report["media"]["loss_ratio"] < 0.01
    assert report["media"]["out_of_order"] > 0, "what was sent again came late"


async def test_a_broken_branch_heals_and_touches_no_other() -> None:
    with network("abc") as hosts:
        async with open_fleet(hosts, workers=1) as fleet:
            with fleet.load_test(*AUDIO, "--viewers", "9", "--duration", "25", "--churn", "1") as running:
                broken = await a_relay_target(fleet)
                os.kill(broken.pid, signal.SIGKILL)
                report = await asyncio.to_thread(report_of, running)
    lost = report["failures"].pop("peer-moved")
    assert report["failures"] == {}, "only who was on the broken branch"
    assert report["viewers"]["failed"] == lost
    lost_on_the_way = report["media"]["packets_lost"] - report["media"]["dropped_here"]
    assert lost_on_the_way <= 0, "the others heard everything that this machine could take"
    assert report["viewers_by_server"][broken.server] > 0, "new viewers hear there again"


@dataclass(frozen=True, slots=True)
class Worker:
    """One that gets the producer by a relay."""

    server: str
    pid: int


async def a_relay_target(fleet: HostFleet) -> Worker:
    """The worker of the first relay that is open, as soon as nine viewers have joined; more come by churn."""
    async with (
        asyncio.timeout(START_TIMEOUT_S),
        connect(BusConfig(servers=(fleet.nats_url,))) as bus,
        bus.follow(*subjects.LOG_SUBJECTS, after_seq=0) as log,
    ):
        targets: list[Place] = []
        answered = 0
        async for delivery in log:
            _, message = read_message(delivery.subject, delivery.data)
            match message.data:
                case events.RelayOpened():
                    targets.append(message.data.target)
                case results.ConsumeResult():
                    answered += 1
            if targets and answered >= 9:
                break
        pids = {worker["worker"]: worker["pid"] for it in fleet.json("ls")["servers"] for worker in it["workers"]}
        return Worker(targets[0].server, pids[targets[0].worker])
