"""Every example of ``examples/python`` runs as its documentation says, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from mafalda.client import connect
from mafalda.client.media import ClipSpec, Probe, find_tone, make_clip, open_playback
from mafalda.client.media.counter import read_number
from mafalda.client.media.probe import luma_of, mono_of
from mafalda.contract.messages.queries import DataProducerInfo
from tests.e2e.conftest import Up

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
CLIP = ClipSpec(frame_rate=15, duration_s=4)
TIMEOUT_S = 40


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.webm", CLIP)


def _hear_ctrl_c() -> None:
    """Tests that a shell runs in the background ignore it, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def example(fleet: Up, name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an example; it must end well, by itself or by the Ctrl-C that it gets at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env={**os.environ, "MAFALDA_NATS_URL": fleet.nats_url, "PYTHONWARNINGS": "error::ResourceWarning"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=_hear_ctrl_c,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield process
            if process.returncode is None and name != "publish_file.py":
                process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert "Traceback" not in errors.decode(), errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_publish_file_shows_the_file_to_the_room_and_ends_with_it(fleet: Up, clip: Path) -> None:
    async with (
        connect(fleet.nats_url) as client,
        client.join("published", "viewer") as room,
        example(fleet, "publish_file.py", "published", str(clip)),
        asyncio.TaskGroup() as watching,
    ):
        probe, arrivals = Probe(CLIP), room.arrivals()
        for _ in range(2):
            info = await anext(arrivals)
            consumer = await room.consume(info.producer)  # type: ignore[union-attr]
            watching.create_task(probe.run(consumer.track))
        await arrivals.aclose()
        report = await probe.wait_for(frames=CLIP.frames // 2, tone_hz=CLIP.tone_hz)
        assert report.frames_wrong == 0
        assert room.peers[info.peer].app_data == {"title": "clip.webm"}
    # The task group ended: the producers closed when the file did, and so did our tracks.


async def test_record_room_writes_what_was_shown(fleet: Up, clip: Path, tmp_path: Path) -> None:
    async with (
        open_playback(clip, loop=True) as playback,
        connect(fleet.nats_url) as client,
        client.join("recorded", "alice") as room,
    ):
        assert playback.video is not None
        assert playback.audio is not None
        await room.produce(playback.video, id="camera")
        async with example(fleet, "record_room.py", "recorded", str(tmp_path)) as recorder:
            assert recorder.stdout is not None
            await recorder.stdout.readline()
            await room.produce(playback.audio, id="microphone")  # one that comes later
            await recorder.stdout.readline()
            probe = Probe(CLIP)  # time passes as the clip is watched from here too
            async with asyncio.TaskGroup() as watching:
                consumer = await room.consume("camera")
                watching.create_task(probe.run(consumer.track))
                await probe.wait_for(frames=45)
                await consumer.close()
    assert set(os.listdir(tmp_path)) == {"alice-camera.webm", "alice-microphone.webm"}
    numbers = numbers_in(tmp_path / "alice-camera.webm")
    assert len(numbers) > 30
    steps = {(later - earlier) % CLIP.frames for earlier, later in pairwise(numbers)}
    assert steps <= {1, 2, 3}
    assert tone_in(tmp_path / "alice-microphone.webm") == pytest.approx(CLIP.tone_hz, abs=5)


def numbers_in(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        numbers = [read_number(luma_of(frame)) for frame in container.decode(video=0)]
    assert None not in numbers
    return [number for number in numbers if number is not None]


def tone_in(path: Path) -> float | None:
    with av.open(str(path)) as container:
        samples = [mono_of(frame) for frame in container.decode(audio=0)]
    return find_tone(np.concatenate(samples)[-48_000:], 48_000)


async def test_echo_data_says_everything_again(fleet: Up) -> None:
    async with (
        connect(fleet.nats_url) as client,
        client.join("echoed", "alice") as room,
        example(fleet, "echo_data.py", "echoed"),
    ):
        channel = await room.produce_data(label="chat")
        arrivals = room.arrivals()
        info = await anext(arrivals)
        await arrivals.aclose()
        assert isinstance(info, DataProducerInfo)
        assert info.label == "echo"
        echoes = await room.consume_data(info.data_producer)
        # What is said before the bot has heard of the channel is not heard: say it until it comes back.
        async with asyncio.timeout(TIMEOUT_S):
            hello = asyncio.create_task(anext(echoes))
            while not hello.done():
                channel.send("hello")
                await asyncio.wait([hello], timeout=0.2)
            channel.send(b"\x00bytes\xff")
            async for message in echoes:
                if message != "hello":
                    break
        assert hello.result() == "hello"
        assert message == b"\x00bytes\xff"
