"""Python participants in a closed fleet, each with a token and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mafalda.auth.tokens import TokenKeys
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.connection.connection import open_connection
from mafalda.client import EventStream, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from mafalda.contract.grants import Grants
from mafalda.contract.messages.events import ProducerOpened
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import PermissionDenied
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


async def until_opened(events: EventStream) -> ProducerOpened:
    async with asyncio.timeout(TIMEOUT_S):
        while not isinstance(event := await anext(events), ProducerOpened):
            pass
        return event


async def read_to_the_end(events: EventStream) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        async for _ in events:
            pass


async def test_media_outlasts_a_restart_of_nats_and_revoking_ends_the_session(state: Path) -> None:
    clip = await asyncio.to_thread(make_clip, state / "clip.webm", CLIP)
    with closed_up(state, "--workers", "1", "--no-page") as running:
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
                assert (await until_opened(events)).producer == voice.id
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
