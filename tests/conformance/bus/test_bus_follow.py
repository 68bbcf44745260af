"""What a follower promises: all of its patterns, once, in log order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mafalda.bus.protocol import Bus
from mafalda.contract import subjects

ROOM = "mafalda.room.r.>"
EVENTS = [subjects.room_event("r", name) for name in ("a", "b", "c")]
COMMAND = subjects.command("r", "s1", "place-peer")
ELSEWHERE = subjects.room_event("elsewhere", "a")


async def test_from_now_on(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS)
    async with bus.follow(ROOM) as follower:
        assert follower.seq == 3
        await h.append(bus, EVENTS[0])
        [delivery] = await h.take(follower, 1)
        assert (delivery.subject, delivery.seq, follower.seq) == (EVENTS[0], 4, 4)


async def test_from_the_past_into_the_present(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS)
    async with bus.follow(ROOM, after_seq=1) as follower:
        await h.append(bus, EVENTS[0])
        assert [d.seq for d in await h.take(follower, 3)] == [2, 3, 4]
        await h.append(bus, EVENTS[0])
        assert [d.seq for d in await h.take(follower, 1)] == [5]


async def test_many_patterns_in_one_order(backend: Any, h: Any) -> None:
    async with (
        backend.open() as bus,
        backend.open() as writer,
        bus.follow(*EVENTS, "mafalda.command.r.*.*", "mafalda.server.*.event.*") as follower,
    ):
        cycle = [*EVENTS, ELSEWHERE, COMMAND, subjects.server_event("s", "x")] * 50
        await asyncio.gather(*(writer.append(subject, h.message(subject)) for subject in cycle))
        taken = await h.take(follower, 250)
        stored = [d.seq async for d in bus.read(">") if d.subject != ELSEWHERE]
        assert [d.seq for d in taken] == stored


async def test_overlapping_patterns_yield_once(bus: Bus, h: Any) -> None:
    async with bus.follow(ROOM, "mafalda.room.*.event.*", EVENTS[0]) as follower:
        await h.append(bus, EVENTS[0], EVENTS[1], ELSEWHERE)
        assert [d.seq for d in await h.take(follower, 3)] == [1, 2, 3]


async def test_everything(bus: Bus, h: Any) -> None:
    async with bus.follow(*subjects.LOG_SUBJECTS) as follower:
        await h.append(bus, *EVENTS, COMMAND, ELSEWHERE)
        assert [d.seq for d in await h.take(follower, 5)] == [1, 2, 3, 4, 5]


async def test_what_is_added_is_followed_from_then_on(bus: Bus, h: Any) -> None:
    async with bus.follow(EVENTS[0]) as follower:
        await h.append(bus, EVENTS[0], EVENTS[1])
        await follower.add(EVENTS[1])
        await h.append(bus, EVENTS[1], EVENTS[0])
        assert [d.seq for d in await h.take(follower, 3)] == [1, 3, 4]


async def test_nothing_is_missed_while_patterns_are_added(backend: Any, h: Any) -> None:
    """As an agent does with each peer: add, then make the peer publish at once."""
    async with backend.open() as bus, backend.open() as writer, bus.follow(COMMAND) as follower:
        for peer in range(40):
            intent = subjects.intent("r", f"p{peer}", "join")
            await follower.add(f"mafalda.room.r.peer.p{peer}.intent.*")
            await h.append(writer, intent)
        assert [d.seq for d in await h.take(follower, 40)] == list(range(1, 41))


async def test_adding_while_another_task_waits(bus: Bus, h: Any) -> None:
    async with bus.follow(COMMAND) as follower:
        waiting = asyncio.create_task(h.take(follower, 1))
        await follower.add(EVENTS[0])
        await h.append(bus, EVENTS[0])
        assert [d.subject for d in await waiting] == [EVENTS[0]]


async def test_what_is_removed_is_not_followed(bus: Bus, h: Any) -> None:
    async with bus.follow(*EVENTS) as follower:
        await h.append(bus, *EVENTS)
        await follower.remove(EVENTS[1])
        await h.append(bus, *EVENTS)
        assert [d.seq for d in await h.take(follower, 4)] == [1, 3, 4, 6]


async def test_duplicates_are_not_yielded(bus: Bus, h: Any) -> None:
    message = h.message(EVENTS[0])
    async with bus.follow(ROOM) as follower:
        await bus.append(EVENTS[0], message)
        await bus.append(EVENTS[0], message)
        await h.append(bus, EVENTS[1])
        assert [d.subject for d in await h.take(follower, 2)] == EVENTS[:2]


async def test_a_cancelled_wait_loses_nothing(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS)
    async with bus.follow(ROOM, after_seq=0) as follower:
        seen: list[int] = []
        for _ in range(2000):
            task = asyncio.ensure_future(anext(follower))
            await asyncio.sleep(0)  # cancelled wherever it happens to be
            if not task.done():
                task.cancel()
            try:
                seen.append((await task).seq)
            except asyncio.CancelledError:
                continue
            if len(seen) == 3:
                break
        seen += [d.seq for d in await h.take(follower, 3 - len(seen))]
        assert seen == [1, 2, 3]


@pytest.mark.parametrize("poison", [b"", b"\xff\x00garbage", b"{", b"[]", b'{"type":1}', b"x" * 300_000])
async def test_poison_is_yielded_raw_and_blocks_nobody(backend: Any, bus: Bus, h: Any, poison: bytes) -> None:
    intent = subjects.intent("r", "p", "join")
    async with bus.follow(ROOM) as follower, bus.share(ROOM, group="g") as shared:
        await backend.inject(intent, poison)
        await backend.inject(intent, poison, {"Nats-Sequence": "7", "Status": "404", "X": "y"})
        await h.append(bus, EVENTS[0])
        for deliveries in (follower, shared, bus.read(ROOM)):
            taken = await h.take(deliveries, 3)
            assert [d.seq for d in taken] == [1, 2, 3]
            assert [d.data for d in taken[:2]] == [poison, poison]
    entry = await bus.last(intent)
    assert entry is not None
    assert (entry.seq, entry.data) == (2, poison)


async def test_a_broken_connection_loses_and_repeats_nothing(backend: Any, h: Any) -> None:
    async with (
        backend.open() as bus,
        backend.open() as writer,
        bus.follow(*EVENTS) as follower,
        bus.follow(*subjects.LOG_SUBJECTS) as whole,
    ):

        async def write() -> None:
            for _ in range(100):
                await h.append(writer, *EVENTS, COMMAND)

        async def break_it() -> None:
            for _ in range(5):
                await backend.disturb(bus)

        async with asyncio.TaskGroup() as tasks:
            if not hasattr(backend, "broker"):  # memory answers an append at once when it is down
                tasks.create_task(write())
                tasks.create_task(break_it())
            else:
                await break_it()
                await write()
            some, everything = await asyncio.gather(h.take(follower, 300), h.take(whole, 400))
        assert [d.seq for d in everything] == list(range(1, 401))
        assert [d.seq for d in some] == [d.seq for d in everything if d.subject != COMMAND]


async def test_followers_do_not_disturb_each_other(bus: Bus, h: Any) -> None:
    async with bus.follow(ROOM) as slow, bus.follow(ROOM) as fast:
        await h.append(bus, *EVENTS)
        assert len(await h.take(fast, 3)) == 3
        assert [d.seq for d in await h.take(slow, 3)] == [1, 2, 3]


async def test_an_illegal_pattern_is_refused(bus: Bus) -> None:
    for pattern in ("", "mafalda..x", "mafalda.>.x", "mafalda.a*", "mafalda.a b"):
        with pytest.raises(ValueError, match="not a subject pattern"):
            async with bus.follow(pattern):
                pass
