"""What ``append`` promises: stored once, in order, and only if what was expected holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mafalda.bus.protocol import Bus, Expect
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import CONTENT_TYPE, MAX_MESSAGE_BYTES, decode
from mafalda.errors import Conflict, MessageTooLarge

RESULT = subjects.result("r", "p", "join")
COMMAND = subjects.command("r", "s1", "place-peer")
OTHER_COMMAND = subjects.command("r", "s2", "open-relay")
AGGREGATE = subjects.room_commands("r")


async def test_sequences_grow_by_one(bus: Bus, h: Any) -> None:
    assert await h.append(bus, RESULT, COMMAND, RESULT) == [1, 2, 3]
    assert await bus.last_seq() == 3


async def test_the_same_id_is_stored_once(bus: Bus, h: Any) -> None:
    message = h.message(RESULT)
    first = await bus.append(RESULT, message)
    again = await bus.append(RESULT, message)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.seq == again.seq == await bus.last_seq() == 1


async def test_a_message_is_stored_as_it_was_with_its_headers(bus: Bus, h: Any) -> None:
    message = h.message(RESULT)
    await bus.append(RESULT, message, headers={"Mafalda-Reply-To": "_INBOX.x"})
    entry = await bus.last(RESULT)
    assert entry is not None
    assert decode(entry.data) == message
    assert entry.headers["Nats-Msg-Id"] == message.id
    assert entry.headers["Content-Type"] == CONTENT_TYPE
    assert entry.headers["traceparent"].split("-")[1] == message.traceparent.split("-")[1]
    assert entry.headers["Mafalda-Reply-To"] == "_INBOX.x"


async def test_an_expectation_that_holds(bus: Bus, h: Any) -> None:
    first = await bus.append(COMMAND, h.message(COMMAND), expect=Expect(AGGREGATE, 0))
    await h.append(bus, RESULT, subjects.command("another", "s1", "place-peer"))
    second = await bus.append(OTHER_COMMAND, h.message(OTHER_COMMAND), expect=Expect(AGGREGATE, first.seq))
    assert (first.seq, second.seq) == (1, 4)


async def test_an_expectation_that_does_not_hold_names_the_real_sequence(bus: Bus, h: Any) -> None:
    await h.append(bus, RESULT, COMMAND, OTHER_COMMAND, RESULT)
    for expected in (0, 2, 4, 9):
        with pytest.raises(Conflict) as caught:
            await bus.append(COMMAND, h.message(COMMAND), expect=Expect(AGGREGATE, expected))
        assert caught.value.details["actual"] == 3
    assert await bus.last_seq() == 4


async def test_a_refused_message_is_nowhere(bus: Bus, h: Any) -> None:
    async with bus.follow(AGGREGATE) as follower, bus.share(AGGREGATE, group="g") as shared:
        await h.append(bus, COMMAND)
        with pytest.raises(Conflict):
            await bus.append(COMMAND, h.message(COMMAND), expect=Expect(AGGREGATE, 0))
        await h.append(bus, OTHER_COMMAND)
        assert [d.subject for d in await h.take(follower, 2)] == [COMMAND, OTHER_COMMAND]
        assert [d.subject for d in await h.take(shared, 2)] == [COMMAND, OTHER_COMMAND]


async def test_repeating_a_conditional_append_is_no_conflict(bus: Bus, h: Any) -> None:
    message = h.message(COMMAND)
    first = await bus.append(COMMAND, message, expect=Expect(AGGREGATE, 0))
    await h.append(bus, OTHER_COMMAND)
    again = await bus.append(COMMAND, message, expect=Expect(AGGREGATE, 0))
    assert again.duplicate
    assert again.seq == first.seq


async def test_of_many_writers_one_wins(backend: Any, h: Any) -> None:
    async def write() -> int:
        async with backend.open() as bus:
            try:
                await bus.append(COMMAND, h.message(COMMAND), expect=Expect(AGGREGATE, 0))
            except Conflict as conflict:
                return int(conflict.details["actual"])
            return 0

    assert sorted(await asyncio.gather(*(write() for _ in range(8)))) == [0] + [1] * 7


async def test_many_at_once_are_all_stored(bus: Bus, h: Any) -> None:
    appended = await asyncio.gather(*(bus.append(RESULT, h.message(RESULT)) for _ in range(500)))
    assert sorted(one.seq for one in appended) == list(range(1, 501))


async def test_what_nobody_would_read_is_refused_here(bus: Bus, h: Any) -> None:
    huge = h.message(RESULT, target="x").model_copy(update={"source": "/" + "x" * MAX_MESSAGE_BYTES})
    with pytest.raises(MessageTooLarge):
        await bus.append(RESULT, huge)
    with pytest.raises(ValueError, match="does not capture"):
        await bus.append("mafalda.server.s.load", h.message("mafalda.server.s.load"))
    assert await bus.last_seq() == 0
