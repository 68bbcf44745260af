"""Snapshots beside the log, and a log whose beginning was discarded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mafalda.bus.protocol import Bus
from mafalda.errors import Conflict, LogTruncated, NotFound
from tests.conformance.bus.conftest import DEADLINE_S, Backend, Helpers

A = "mafalda.room.a.event.relay-opened"
B = "mafalda.room.b.event.relay-opened"


async def test_an_object_has_its_last_version(bus: Bus) -> None:
    assert await bus.snapshots.get("x.y") is None
    first = await bus.snapshots.put("x.y", b"one")
    second = await bus.snapshots.put("x.y", b"two")
    assert second > first
    found = await bus.snapshots.get("x.y")
    assert found is not None
    assert (found.name, found.data, found.version) == ("x.y", b"two", second)


async def test_a_write_that_expects_another_version_changes_nothing(bus: Bus) -> None:
    first = await bus.snapshots.put("x", b"one", last_version=0)
    with pytest.raises(Conflict):
        await bus.snapshots.put("x", b"other", last_version=0)
    with pytest.raises(Conflict):
        await bus.snapshots.put("y", b"other", last_version=first)
    second = await bus.snapshots.put("x", b"two", last_version=first)
    found = await bus.snapshots.get("x")
    assert found is not None
    assert (found.data, found.version) == (b"two", second)


async def test_of_several_that_replace_the_same_version_one_wins(backend: Backend) -> None:
    async with backend.open() as one, backend.open() as other:
        first = await one.snapshots.put("x", b"0")
        writes = [bus.snapshots.put("x", b"%d" % i, last_version=first) for i, bus in enumerate([one, other] * 3)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 5


async def test_objects_are_listed_and_deleted(bus: Bus) -> None:
    for name in ("b.1", "a", "b.2"):
        await bus.snapshots.put(name, b"")
    assert await bus.snapshots.names() == ["a", "b.1", "b.2"]
    await bus.snapshots.delete("b.1")
    await bus.snapshots.delete("b.1")
    assert await bus.snapshots.names() == ["a", "b.2"]
    assert await bus.snapshots.get("b.1") is None


async def test_objects_are_not_in_the_log(bus: Bus) -> None:
    await bus.snapshots.put("x", b"one")
    assert await bus.last_seq() == 0


async def test_a_purged_log_keeps_its_sequences(bus: Bus, h: type[Helpers]) -> None:
    seqs = await h.append(bus, A, B, A, B)
    await bus.purge_log(before_seq=3)
    usage = await bus.log_usage()
    assert (usage.first_seq, usage.last_seq, usage.entries) == (3, 4, 2)
    assert [entry.seq async for entry in bus.read(A, B)] == seqs[2:]
    assert [entry.seq async for entry in bus.read(A, after_seq=1)] == [3]
    await bus.purge_log(before_seq=5)
    usage = await bus.log_usage()
    assert (usage.first_seq, usage.last_seq, usage.entries) == (5, 4, 0)
    assert await bus.last(A) is None
    assert await h.append(bus, A) == [5]


async def test_the_time_of_an_entry_is_known(bus: Bus, h: type[Helpers]) -> None:
    await h.append(bus, A, B, A)
    times = [await bus.stored_at(seq) for seq in (1, 2, 3)]
    assert times == sorted(times)
    assert abs(times[0] - datetime.now(UTC)) < timedelta(seconds=DEADLINE_S)
    await bus.purge_log(before_seq=3)
    assert await bus.stored_at(1) == times[2], "of the first one that is still there"
    with pytest.raises(NotFound):
        await bus.stored_at(4)


async def test_a_follower_from_the_beginning_begins_where_the_log_does(bus: Bus, h: type[Helpers]) -> None:
    await h.append(bus, A, A, A)
    await bus.purge_log(before_seq=3)
    async with bus.follow(A, after_seq=0) as follower:
        assert [entry.seq for entry in await h.take(follower, 1)] == [3]
        await h.append(bus, A)
        assert [entry.seq for entry in await h.take(follower, 1)] == [4]


async def test_a_follower_that_has_missed_what_was_discarded_says_so(bus: Bus, h: type[Helpers]) -> None:
    await h.append(bus, A, A, A)
    await bus.purge_log(before_seq=3)
    async with bus.follow(A, after_seq=1) as follower:
        with pytest.raises(LogTruncated):
            await h.take(follower, 1)
    async with bus.follow(A, after_seq=2) as follower:
        assert [entry.seq for entry in await h.take(follower, 1)] == [3]
