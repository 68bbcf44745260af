"""A closed fleet: Python participants with a token and nothing else, and an application that moderates over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mafalda.auth.tokens import TokenKeys
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.connection.connection import open_connection
from mafalda.client import EventStream, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from mafalda.contract.grants import ApplicationGrants, Grants
from mafalda.contract.messages.events import PeerUpdated, ProducerClosed, ProducerOpened, ProducerPaused
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import MafaldaError, NotGranted, NotJoined, PermissionDenied
from tests.e2e.conftest import Up, closed_up

CLIP = ClipSpec(frame_rate=15, duration_s=4)
TIMEOUT_S = 60


@asynccontextmanager
async def joined(running: Up, token: str) -> AsyncIterator[Room]:
    """A peer of the room that the token names, under the id that it names."""
    async with connect(running.nats_url, token=token) as client, client.join() as room:
        yield room


def mint(running: Up, peer: str) -> str:
    assert running.keys is not None
    keys = TokenKeys.read(running.keys / "tokens.json")
    return keys.mint(Grants(rooms=["lobby"], peer=peer), life_s=600, now=int(time.time()))


async def revoke(running: Up, token: str) -> None:
    """What ``mafalda token revoke`` does."""
    seed = read_seed(Path(running.nkey("operator")["MAFALDA_NKEY_FILE"]))
    async with open_connection(BusConfig(servers=(running.nats_url,), name="operator", nkey_seed=seed)) as operator:
        await operator.request(REVOKE_REQUEST, token.encode(), timeout_s=TIMEOUT_S)


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


def http_client(running: Up) -> httpx.AsyncClient:
    assert running.keys is not None
    assert running.http_url is not None
    grants = ApplicationGrants(application=True)
    token = TokenKeys.read(running.keys / "tokens.json").mint(grants, life_s=600, now=int(time.time()))
    return httpx.AsyncClient(
        base_url=running.http_url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S, trust_env=False
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with closed_up(tmp_path_factory.mktemp("fleet"), "--workers", "1", "--no-page", "--http") as up:
        yield up


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.webm", CLIP)


async def test_an_application_moderates_over_http(running: Up, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timed = Timed()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client(running))

        async def join(peer: str) -> Room:
            client = await stack.enter_async_context(connect(running.nats_url, token=mint(running, peer)))
            return await stack.enter_async_context(client.join())

        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        assert playback.video is not None
        amy, ben = await join("amy"), await join("ben")
        camera = await amy.produce(playback.video)
        consumer, probe = await ben.consume(camera.id), Probe(CLIP)
        watching = asyncio.create_task(probe.run(consumer.track), name="probe")
        await probe.wait_for(frames=1, timeout_s=TIMEOUT_S)
        seen = ben.events()
        peers = "/rooms/lobby/peers"

        mute = http.post(f"{peers}/amy/mute", json={"kinds": ["video"]})
        paused = await timed.until("mute", mute, until(seen, ProducerPaused))
        assert paused.producer == camera.id
        unmuted = await http.post(f"{peers}/amy/unmute", json={"producers": [camera.id]})
        assert unmuted.json() == {"producers": [camera.id]}
        await probe.wait_for(frames=probe.report.frames_decoded + 5, timeout_s=TIMEOUT_S)

        await http.put(f"{peers}/amy/app-data", json={"appData": {"hand": "up"}})
        assert (await until(seen, PeerUpdated)).app_data == {"hand": "up"}
        assert ben.peers["amy"].app_data == {"hand": "up"}

        change = http.put(f"{peers}/amy/grants", json={"publish": ["audio"]})
        closed = await timed.until("grants", change, until(seen, ProducerClosed))
        assert closed.producer == camera.id
        assert playback.audio is not None
        voice = await amy.produce(playback.audio)  # the session was kept, over a new connection
        assert voice.id in ben.producers or (await ben.consume(voice.id)).id
        with pytest.raises(NotGranted):
            await amy.produce(playback.video)
        await watching

        removed = await timed.until("remove", http.post(f"{peers}/ben/remove"), over(ben))
        assert isinstance(removed, NotJoined)
        assert removed.details["reason"] == "removed"

        ended = await timed.until("end", http.post("/rooms/lobby/end"), over(amy))
        assert ended.details["reason"] == "room-ended"
        assert (await http.get("/rooms/lobby")).status_code == 404
        eve = await join("eve")
        assert set(eve.peers) == {"eve"}
    with capsys.disabled():
        print("\n" + "\n".join(timed.lines))


async def test_media_outlasts_a_restart_of_nats_and_revoking_ends_the_session(running: Up, clip: Path) -> None:
    tokens = [mint(running, peer) for peer in ("ana", "bob")]
    async with open_playback(clip, loop=True) as playback, joined(running, tokens[0]) as ana:
        assert playback.video is not None
        assert playback.audio is not None
        camera = await ana.produce(playback.video)
        async with joined(running, tokens[1]) as bob:
            assert (bob.id, bob.peer) == ("lobby", "bob")
            events = bob.events()
            consumer, probe = await bob.consume(camera.id), Probe(CLIP)
            watching = asyncio.create_task(probe.run(consumer.track), name="probe")
            await probe.wait_for(frames=15, timeout_s=TIMEOUT_S)
            (nats,) = [process for process in running.family() if process.name() == "nats-server"]
            nats.kill()
            async with asyncio.timeout(TIMEOUT_S):
                voice = await ana.produce(playback.audio)  # requested while NATS is away
            assert (await until(events, ProducerOpened)).producer == voice.id
            await probe.wait_for(frames=probe.report.frames_decoded + 15, timeout_s=TIMEOUT_S)
            assert probe.report.frames_wrong == 0
            await revoke(running, tokens[1])
            with pytest.raises(PermissionDenied, match="the token is revoked"):
                await read_to_the_end(events)
        async with asyncio.timeout(TIMEOUT_S):
            await watching
        with pytest.raises(PermissionDenied):
            async with joined(running, tokens[1]):
                pass
        assert ana.connected
