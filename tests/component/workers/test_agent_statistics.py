"""A client's statistics: taken by its agent, and appended with what the worker knows."""

from __future__ import annotations

import pytest

from mafalda.contract.messages import intents, results
from mafalda.contract.messages.events import ProducerPaused, StatisticsReported
from mafalda.contract.messages.queries import QueryScores, ReportStatistics, Scores, StatisticsTaken
from mafalda.contract.messages.statistics import WayStatistics
from mafalda.errors import StaleGeneration
from tests.component.workers.agent_world import Fleet
from tests.component.workers.test_agent_subscriptions import joined

POOR = WayStatistics(way="up", quality="poor", bitrate_bps=300_000, loss_ratio=0.18)


async def test_a_report_is_appended_for_its_peer_with_its_place(fleet: Fleet) -> None:
    await fleet.start("s1", statistics_interval_s=3)
    (place,) = fleet.places("s1")
    alice = await joined(fleet, "alice", place)

    taken = await alice.query(ReportStatistics(generation=1, interval_s=5, ways=[POOR]), StatisticsTaken)
    assert taken.interval_s == 3
    event = await fleet.wait_appended(StatisticsReported)
    assert (event.server, event.worker, event.ways, event.cause) == ("s1", place.worker, [POOR], "interval")
    subjects = [delivery.subject for delivery, message in fleet.entries() if message.data == event]
    assert subjects == ["mafalda.room.lobby.peer.alice.event.statistics-reported"], "nobody else is told"

    for _ in range(3):
        await alice.query(ReportStatistics(generation=1, interval_s=5, ways=[POOR]), StatisticsTaken)
    await alice.ask(intents.SetAppData(app_data={}), results.Done)
    assert len(fleet.appended(StatisticsReported)) == 1, "what is not new is not stored"
    await fleet.equals_the_log()


async def test_what_was_measured_at_another_place_is_refused(fleet: Fleet) -> None:
    await fleet.start("s1")
    alice = await joined(fleet, "alice", *fleet.places("s1"))
    with pytest.raises(StaleGeneration):
        await alice.query(ReportStatistics(generation=7, interval_s=5, ways=[POOR]), StatisticsTaken)


async def test_scores_of_what_is_sent_and_received(fleet: Fleet) -> None:
    """A consumer of a producer from which nothing has come yet has its score: 0."""
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    alice, bob = await joined(fleet, "alice", place), await joined(fleet, "bob", place)
    await alice.produce("alice-mic", "send")
    await bob.consume("c", "alice-mic", "receive", paused=False)
    scores = await bob.query(QueryScores(), Scores)
    assert (scores.sent, scores.received) == ({}, {"alice-mic": 0})
    await alice.ask(intents.PauseProducer(producer="alice-mic"), results.Done)
    assert (await bob.query(QueryScores(), Scores)).received == {}, "what is muted has no score"


async def test_the_room_is_told_who_muted_a_producer(fleet: Fleet) -> None:
    await fleet.start("s1")
    alice = await joined(fleet, "alice", *fleet.places("s1"))
    await alice.produce("alice-mic", "send")
    await alice.ask(intents.PauseProducer(producer="alice-mic", by="bob"), results.Done)
    assert (await fleet.wait_appended(ProducerPaused)).by == "bob"
    await alice.ask(intents.ResumeProducer(producer="alice-mic"), results.Done)
    await alice.ask(intents.PauseProducer(producer="alice-mic"), results.Done)
    await fleet.until(lambda: len(fleet.appended(ProducerPaused)) == 2, "it is paused again")
    assert fleet.appended(ProducerPaused)[1].by is None
