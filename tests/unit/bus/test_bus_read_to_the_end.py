"""Reads end where they were meant to end, though the replica that holds the consumer says "none pending" before."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.log.follower import open_follower
from mafalda.bus.log.read import read_log
from mafalda.errors import BusUnavailable
from tests.unit.bus.scripted_jetstream import ScriptedJetStream

A, B, C = (f"mafalda.room.r.event.{name}" for name in "abc")


async def read(connection: ScriptedJetStream, *patterns: str, up_to_seq: int | None = None) -> list[int]:
    async with asyncio.timeout(20):
        return [d.seq async for d in read_log(connection, patterns, after_seq=0, up_to_seq=up_to_seq)]


async def test_a_replica_that_lags_and_catches_up() -> None:
    connection = ScriptedJetStream([A] * 10, [7, 7, 9, 10])
    assert await read(connection, ">") == list(range(1, 11))
    assert connection.count("CONSUMER.CREATE") == 4


async def test_a_replica_that_has_nothing_yet() -> None:
    assert await read(ScriptedJetStream([A, B], [0, 2]), A, B) == [1, 2]


async def test_with_several_filters_of_which_one_lacks_an_entry() -> None:
    assert await read(ScriptedJetStream([A, B, C, C, B, C], [4, 6]), A, B) == [1, 2, 5]


async def test_a_long_stretch_that_is_read_without_filters() -> None:
    assert await read(ScriptedJetStream([A, B, C] * 200, [400, 400, 600]), A, B) == [s for s in range(1, 601) if s % 3]


async def test_a_replica_that_stays_behind_is_an_error_and_what_came_before_is_complete() -> None:
    connection = ScriptedJetStream([A] * 10, [7], config=BusConfig(append_timeout_s=0.05))
    seen: list[int] = []

    async def read_all() -> None:
        async for delivery in read_log(connection, [">"], after_seq=0, up_to_seq=None):
            seen.append(delivery.seq)

    with pytest.raises(BusUnavailable, match="to its end") as caught:
        await read_all()
    assert seen == list(range(1, 8))
    assert caught.value.details["position"] == 7


async def test_when_nothing_more_matches_the_leader_is_asked_once() -> None:
    connection = ScriptedJetStream([A, B, B, B], [4])
    assert await read(connection, A) == [1]
    assert connection.count("CONSUMER.CREATE") == connection.count("STREAM.MSG.GET") == 1


async def test_what_comes_after_the_end_is_not_waited_for() -> None:
    connection = ScriptedJetStream([A, B, A, A], [2])
    assert await read(connection, A, up_to_seq=2) == [1]
    assert connection.count("CONSUMER.CREATE") == 1


async def test_where_the_end_was_seen_nobody_is_asked() -> None:
    connection = ScriptedJetStream([A, B, A], [3])
    assert await read(connection, A) == [1, 3]
    assert connection.count("STREAM.MSG.GET") == 0


async def test_a_server_without_a_cluster_is_believed() -> None:
    connection = ScriptedJetStream([A, B], [2], is_clustered=False)
    assert await read(connection, A) == [1]
    assert connection.count("STREAM.MSG.GET") == 0


async def test_a_follower_catches_up_to_the_end() -> None:
    connection = ScriptedJetStream([A, B, A, B], [2, 3, 4])
    async with open_follower(connection, (A, B), after_seq=0) as follower, asyncio.timeout(20):
        assert [(await anext(follower)).seq for _ in range(4)] == [1, 2, 3, 4]


async def test_a_follower_does_not_count_as_verified_what_it_could_not_read() -> None:
    """It goes on trying, and yields what was missing once it is there."""
    config = BusConfig(append_timeout_s=0.05)
    connection = ScriptedJetStream([A, A, A], [2], config=config)
    async with open_follower(connection, (A,), after_seq=0) as follower:
        assert [(await anext(follower)).seq for _ in range(2)] == [1, 2]
        waiting = asyncio.ensure_future(anext(follower))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        assert follower.seq == 2
        connection.let_the_replica_catch_up()
        async with asyncio.timeout(20):
            assert (await waiting).seq == 3
