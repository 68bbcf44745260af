"""What an application does over HTTP reaches peers of a closed fleet at once: real tokens, workers and media."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from mafalda.auth.tokens import TokenKeys
from mafalda.client import EventStream, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from mafalda.contract.grants import ApplicationGrants
from mafalda.contract.messages.events import PeerUpdated, ProducerClosed, ProducerPaused
from mafalda.errors import MafaldaError, NotJoined
from tests.e2e.conftest import Up, closed_up
from tests.e2e.test_participants import mint

CLIP = ClipSpec(frame_rate=15, duration_s=4)
TIMEOUT_S = 60


async def until(events: EventStream, kind: type[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        while not isinstance(event := await anext(events), kind):
            pass
        return event


async def read_to_the_end(events: EventStream) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        async for _ in events:
            pass


async def over(room: Room) -> MafaldaError:
    """Why a membership is over."""
    with pytest.raises(MafaldaError) as ended:
        await read_to_the_end(room.events())
    return ended.value


class Timed:
    """Prints how long things take."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def until(self, what: str, request: Awaitable[httpx.Response], seen: Awaitable[Any]) -> Any:
        """Send a request and await what shows its effect."""
        waiting = asyncio.ensure_future(seen)
        started = time.perf_counter()
        sending = asyncio.ensure_future(request)
        found = await waiting
        self.lines.append(f"{what}: {time.perf_counter() - started:.3f} s")
        response = await sending
        assert response.status_code < 300, response.text
        return found


def client_of(running: Up) -> httpx.AsyncClient:
    assert running.keys is not None
    assert running.http_url is not None
    grants = ApplicationGrants(application=True)
    token = TokenKeys.read(running.keys / "tokens.json").mint(grants, life_s=600, now=int(time.time()))
    return httpx.AsyncClient(
        base_url=running.http_url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, trust_env=False
    )


async def test_an_application_moderates_over_http(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = await asyncio.to_thread(make_clip, state / "clip.webm", CLIP)
    timed = Timed()
    with closed_up(state, "--workers", "1", "--no-page", "--http") as running:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(client_of(running))

            async def join(peer: str) -> Room:
                client = await stack.enter_async_context(connect(running.nats_url, token=mint(running, peer)))
                return await stack.enter_async_context(client.join())

            playback = await stack.enter_async_context(open_playback(clip, loop=True))
            assert playback.video is not None
            ana, bob = await join("ana"), await join("bob")
            camera = await ana.produce(playback.video)
            consumer, probe = await bob.consume(camera.id), Probe(CLIP)
            watching = asyncio.create_task(probe.run(consumer.track), name="probe")
            await probe.wait_for(frames=1, timeout_s=TIMEOUT_S)
            seen = bob.events()
            peers = "/rooms/lobby/peers"

            mute = http.post(f"{peers}/ana/mute", json={"kinds": ["video"]})
            paused = await timed.until("mute", mute, until(seen, ProducerPaused))
            assert paused.producer == camera.id
            unmuted = await http.post(f"{peers}/ana/unmute", json={"producers": [camera.id]})
            assert unmuted.json() == {"producers": [camera.id]}
            await probe.wait_for(frames=probe.report.frames_decoded + 5, timeout_s=TIMEOUT_S)

            await http.put(f"{peers}/ana/app-data", json={"appData": {"hand": "up"}})
            assert (await until(seen, PeerUpdated)).app_data == {"hand": "up"}
            assert bob.peers["ana"].app_data == {"hand": "up"}

            change = http.put(f"{peers}/ana/grants", json={"publish": ["audio"]})
            closed = await timed.until("grants", change, until(seen, ProducerClosed))
            assert closed.producer == camera.id
            assert playback.audio is not None
            voice = await ana.produce(playback.audio)  # the session was kept, over a new connection
            assert voice.id in bob.producers or (await bob.consume(voice.id)).id
            with pytest.raises(MafaldaError):
                await ana.produce(playback.video)
            await watching

            removed = await timed.until("remove", http.post(f"{peers}/bob/remove"), over(bob))
            assert isinstance(removed, NotJoined)
            assert removed.details["reason"] == "removed"

            ended = await timed.until("end", http.post("/rooms/lobby/end"), over(ana))
            assert ended.details["reason"] == "room-ended"
            assert (await http.get("/rooms/lobby")).status_code == 404
            eve = await join("eve")
            assert set(eve.peers) == {"eve"}
    with capsys.disabled():
        print("\n" + "\n".join(timed.lines))
