"""What reading the log promises: all, in order, to the end as of the call."""

from __future__ import annotations

import asyncio
from typing import Any

from mafalda.bus.protocol import Bus
from mafalda.contract import subjects

EVENTS = [subjects.room_event(room, name) for room in ("r", "q") for name in ("a", "b")]
COMMAND = subjects.command("r", "s1", "place-peer")


async def test_an_empty_log(bus: Bus) -> None:
    assert [d async for d in bus.read(">")] == []
    assert await bus.last("mafalda.>") is None
    assert await bus.last_seq() == 0


async def test_ranges_and_patterns(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS, COMMAND)

    async def read(*patterns: str, **limits: int) -> list[int]:
        return [d.seq async for d in bus.read(*patterns, **limits)]

    assert await read(">") == [1, 2, 3, 4, 5]
    assert await read("mafalda.room.r.>") == [1, 2]
    assert await read("mafalda.room.*.event.b", COMMAND) == [2, 4, 5]
    assert await read(">", after_seq=2) == [3, 4, 5]
    assert await read(">", after_seq=1, up_to_seq=3) == [2, 3]
    assert await read("mafalda.room.>", after_seq=1, up_to_seq=99) == [2, 3, 4]
    assert await read(">", after_seq=5) == []
    assert await read(">", after_seq=3, up_to_seq=2) == []
    assert await read("mafalda.room.nobody.>") == []


async def test_patterns_that_overlap_in_part(bus: Bus, h: Any) -> None:
    """JetStream refuses such filters for one consumer."""
    await h.append(bus, *EVENTS, COMMAND)
    read = bus.read("mafalda.room.*.event.a", "mafalda.room.r.event.*", EVENTS[0])
    assert [d.seq async for d in read] == [1, 2, 3]


async def test_very_many_patterns(bus: Bus, h: Any) -> None:
    wanted = [subjects.intent("r", f"p{peer}", "join") for peer in range(300)]
    await h.append(bus, wanted[7], subjects.intent("r", "nobody", "join"), wanted[299])
    assert [d.seq async for d in bus.read(*wanted)] == [1, 3]


async def test_a_long_log(bus: Bus, h: Any) -> None:
    for _ in range(14):  # not all at once: on a busy machine the last would not be acknowledged in time
        await asyncio.gather(*(bus.append(EVENTS[0], h.message(EVENTS[0])) for _ in range(250)))
    assert [d.seq async for d in bus.read("mafalda.>")] == list(range(1, 3501))


async def test_reading_ends_although_others_write(backend: Any, bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS)
    seen: list[int] = []
    async for delivery in bus.read(">"):
        seen.append(delivery.seq)
        await h.append(bus, COMMAND)
    assert seen == [1, 2, 3, 4]


async def test_a_reader_may_stop_early(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS)
    async for delivery in bus.read(">"):
        assert delivery.seq == 1
        break
    assert await bus.last_seq() == 4


async def test_the_last_entry(bus: Bus, h: Any) -> None:
    await h.append(bus, *EVENTS, COMMAND)
    for pattern, seq in ((EVENTS[0], 1), ("mafalda.room.r.>", 2), (">", 5), (subjects.room_commands("r"), 5)):
        entry = await bus.last(pattern)
        assert entry is not None
        assert entry.seq == seq
    assert await bus.last("mafalda.command.nobody.>") is None


async def test_what_was_appended_can_be_read(backend: Any, h: Any) -> None:
    async with backend.open() as writer, backend.open() as reader:
        for number in range(1, 20):
            await h.append(writer, EVENTS[0])
            assert await reader.last_seq() == number
            assert [d.seq async for d in reader.read(">", after_seq=number - 1)] == [number]
