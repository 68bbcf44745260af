"""A flood of joins, and one of messages that nobody can read, beside a call."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from mafalda.aio.retry import retrying
from mafalda.bus.compose import compose
from mafalda.bus.nats.server import NatsServer
from mafalda.contract import subjects
from mafalda.contract.messages.intents import Join, Leave
from mafalda.errors import MafaldaError
from tests.e2e.failures.conftest import Start
from tests.e2e.failures.scene import count_lost_servers, is_clean, measured, open_call, open_view, record
from tests.e2e.watched_clip import watching

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

ROOMS, JOINS_EACH = 40, 10
GARBAGE = 2_000


async def test_a_flood_of_joins_and_of_garbage(nats: NatsServer, fleet_at: Start, tmp_path: Path) -> None:
    """The call goes on and somebody else gets in; everyone who flooded leaves again, and nothing of them is left."""
    async with AsyncExitStack() as stack:
        stack.enter_context(fleet_at(nats.url, "--servers", "2", "--workers", "1"))
        call = await stack.enter_async_context(open_call(nats.url, tmp_path))
        view = await stack.enter_async_context(open_view(nats.url))
        call.begin_measuring()
        peers = [(f"flood-{room}", f"p{number}") for room in range(ROOMS) for number in range(JOINS_EACH)]

        async def publish(room: str, peer: str, intent: Join | Leave) -> None:
            subject = subjects.intent(room, peer, intent.action)
            await view.append(subject, compose(intent, subject=subject, source="/flood"))

        async def garbage(number: int) -> None:
            subject = subjects.intent(call.name, f"noise-{number % 7}", "join")
            await view.connection.publish(subject, uuid4().bytes, headers={})

        await asyncio.gather(*(publish(*peer, Join()) for peer in peers), *(garbage(it) for it in range(GARBAGE)))
        flooded = asyncio.get_running_loop().time()
        await asyncio.gather(*(publish(*peer, Leave()) for peer in peers))
        async for attempt in retrying(MafaldaError, action="join_again", first_s=0.5):
            with attempt:
                late = await stack.enter_async_context(watching(nats.url, call.name, "late"))
        await late.sees_more(5)
        record("somebody joins right behind the flood", joined_s=round(asyncio.get_running_loop().time() - flooded, 1))
        await call.see_more()
        measured(
            f"{len(peers)} joins and {GARBAGE} unreadable messages",
            affected=(),
            others=call.viewers,
            goal_s=0,
            limit_s=1,
        )
        assert await count_lost_servers(nats.url) == 0
        await is_clean(nats.url, timeout_s=120)
