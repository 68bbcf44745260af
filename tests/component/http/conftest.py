"""The HTTP API on a closed NATS, with what an agent and an allocator would append."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.protocol import Follower
from mafalda.cli.serving import listen, serve
from mafalda.contract import subjects
from mafalda.contract.grants import ApplicationGrants
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.events import Event
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput
from mafalda.http.application import http_application
from mafalda.http.control import open_control
from tests.component.auth.conftest import DEADLINE_S, Closed
from tests.component.auth.conftest import closed as closed  # a fixture

WHY = commands.Explanation(policy="test", summary="the test says so")


@dataclass
class Api:
    """A served API."""

    closed: Closed
    url: str
    fleet: NatsBus  # an agent's
    intents: list[tuple[str, Any]] = field(default_factory=list)  # that were answered: subject and payload

    def token(self, *, rooms: list[str] | None = None, at: float | None = None) -> str:
        grants = ApplicationGrants(application=True, rooms=rooms)
        return self.closed.tokens.mint(grants, life_s=600, now=int(at or time.time()))

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=DEADLINE_S, trust_env=False)

    async def append(self, event: Event, room: str = "lobby") -> int:
        subject = subjects.room_event(room, event.action)
        return (await self.fleet.append(subject, compose(event, subject=subject, source="/test"))).seq

    async def joined(self, peer: str, room: str = "lobby") -> None:
        """A peer is placed and has joined."""
        place = commands.PlacePeer(
            room=room, peer=peer, server="s1", worker="w1", generation=1, join=f"join-{peer}", explanation=WHY
        )
        subject = subjects.command(room, "s1", place.action)
        async with self.closed.role("allocator") as allocator:
            await allocator.append(subject, compose(place, subject=subject, source="/test"))
        await self.append(events.PeerJoined(peer=peer, server="s1", worker="w1", generation=1), room)

    async def opened(self, peer: str, producer: str, kind: Any = "audio") -> None:
        await self.append(
            events.ProducerOpened(
                peer=peer,
                producer=producer,
                transport="t",
                server="s1",
                worker="w1",
                generation=1,
                media_kind=kind,
                type="simple",
            )
        )

    async def answer(self, follower: Follower) -> None:
        """Answer each intent as done, once."""
        async for delivery in follower:
            try:
                address, message = read_message(delivery.subject, delivery.data)
            except BadInput:
                continue
            self.intents.append((delivery.subject, message.data))
            subject = subjects.result(address.room or "", address.peer or "", address.action)
            done = results.Done(intent=address.action, generation=1)
            await self.fleet.append(subject, compose(done, subject=subject, source="/test", cause=message))


@asynccontextmanager
async def serve_api(closed: Closed) -> AsyncIterator[str]:
    with listen(0, 0) as listener:
        async with (
            closed.role("application") as bus,
            open_control(bus) as control,
            serve(http_application(control, closed.tokens), listener, name="http api"),
        ):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
async def api(closed: Closed) -> AsyncIterator[Api]:
    async with serve_api(closed) as url, closed.role("agent") as agent:
        api = Api(closed, url, agent)
        started = events.ServerStarted(
            server="s1",
            incarnation="i1",
            workers=[events.WorkerInfo(worker="w1", pid=1, slot=0)],
            announced_address="127.0.0.1",
        )
        subject = subjects.server_event("s1", started.action)
        await agent.append(subject, compose(started, subject=subject, source="/test"))
        async with agent.follow(subjects.ALL_INTENTS) as follower, background(api.answer(follower), "answers"):
            yield api


async def within(awaited: Any) -> Any:
    """What an awaitable returns, within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        return await awaited
