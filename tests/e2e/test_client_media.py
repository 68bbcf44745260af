"""The SDK's media over two real workers: what is sent is what arrives, whoever pauses, closes or comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from mafalda.client import Consumer, Producer, Room, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from mafalda.errors import AlreadyExists, NotFound, UnsupportedError
from tests.e2e.conftest import Up

CLIP = ClipSpec(frame_rate=15, duration_s=4)
TIMEOUT_S = 30


@dataclass(slots=True)
class Pair:
    """A publisher and a viewer, on two workers of one server."""

    publisher: Room
    viewer: Room
    video: Producer
    audio: Producer
    watching: list[asyncio.Task[None]] = field(default_factory=list)

    async def watch(self, producer: Producer) -> tuple[Consumer, Probe]:
        consumer, probe = await self.viewer.consume(producer.id), Probe(CLIP)
        self.watching.append(asyncio.create_task(probe.run(consumer.track), name="probe"))
        return consumer, probe


@pytest.fixture
async def pair(fleet: Up, tmp_path: Path) -> AsyncIterator[Pair]:
    async with open_pair(fleet, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_pair(fleet: Up, folder: Path) -> AsyncIterator[Pair]:
    clip = await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP)
    room = f"media-{uuid4().hex[:8]}"
    async with (
        open_playback(clip, loop=True) as playback,
        connect(fleet.nats_url) as client,
        client.join(room, "publisher") as publisher,
        client.join(room, "viewer") as viewer,
    ):
        assert playback.video is not None
        assert playback.audio is not None
        made = Pair(publisher, viewer, await publisher.produce(playback.video), await publisher.produce(playback.audio))
        yield made
    # The rooms are left: every track has ended, so every probe has.
    async with asyncio.timeout(5):
        await asyncio.gather(*made.watching)


async def more(probe: Probe, frames: int) -> None:
    await probe.wait_for(frames=probe.report.frames_decoded + frames, timeout_s=TIMEOUT_S)


async def test_right_pictures_and_the_tone_arrive_over_a_relay(pair: Pair) -> None:
    video, seen = await pair.watch(pair.video)
    _, heard = await pair.watch(pair.audio)
    await seen.wait_for(frames=30, timeout_s=TIMEOUT_S)
    await heard.wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)
    assert video.relayed == (pair.publisher.worker != pair.viewer.worker)
    assert seen.report.frames_wrong == 0
    assert (await video.stats()).stats


async def test_a_consumer_after_a_closed_one_sees_pictures(pair: Pair) -> None:
    """A closed consumer's SDP section must not be used again: aiortc would never decode anything from it."""
    first, seen = await pair.watch(pair.video)
    other, _ = await pair.watch(pair.audio)
    await more(seen, 5)
    for _ in range(3):
        extra, probe = await pair.watch(pair.video)
        await more(probe, 5)
        await extra.close()
        assert probe.report.frames_wrong == 0
    await other.close()
    await first.close()
    _, again = await pair.watch(pair.video)
    await more(again, 5)


async def test_pausing_at_either_end_stops_the_pictures_and_resuming_brings_them_back(pair: Pair) -> None:
    consumer, probe = await pair.watch(pair.video)
    for end in (consumer, pair.video):
        await more(probe, 3)
        await end.pause()
        await quiet(probe)
        await end.resume()
        await more(probe, 3)
    assert probe.report.frames_wrong == 0


async def quiet(probe: Probe) -> None:
    """Wait until no frame came for half a second: what was on its way has arrived."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await probe.wait_for(frames=probe.report.frames_decoded + 1, timeout_s=0.5)
            except TimeoutError:
                return


async def test_a_producer_can_be_closed_and_its_id_used_again(pair: Pair) -> None:
    with pytest.raises(AlreadyExists):
        await pair.publisher.produce(pair.audio.track, id=pair.audio.id)
    consumer, probe = await pair.watch(pair.audio)
    await probe.wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)
    await pair.audio.close()
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.wait_closed()
    again = await pair.publisher.produce(pair.audio.track, id=pair.audio.id)
    _, probe = await pair.watch(again)
    await probe.wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)


async def test_a_codec_can_be_chosen(pair: Pair) -> None:
    with pytest.raises(UnsupportedError):
        await pair.publisher.produce(pair.video.track, codec="H263")
    h264 = await pair.publisher.produce(pair.video.track, codec="H264")
    _, probe = await pair.watch(h264)
    await more(probe, 10)
    assert probe.report.frames_wrong == 0


async def test_data_of_any_size_and_kind_arrives_in_order(pair: Pair) -> None:
    channel = await pair.publisher.produce_data(label="chat", protocol="words")
    received = await pair.viewer.consume_data(channel.id)
    assert (received.label, received.protocol) == ("chat", "words")
    sent: list[bytes | str] = [f"message {number}" for number in range(200)]
    sent += [b"", b"\x00\xff", bytes(100_000), "ünïcødé"]
    for message in sent:
        channel.send(message)
    async with asyncio.timeout(TIMEOUT_S):
        await channel.drain()
        got = [await anext(received) for _ in sent]
    assert got == sent
    await channel.close()
    async with asyncio.timeout(TIMEOUT_S):
        assert [message async for message in received] == []
    with pytest.raises(NotFound):
        await pair.viewer.consume_data(channel.id)
