"""Subscriptions with real media: one receives everything of a room, before and after a worker's death."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from mafalda.client import Consumer, ProducerSelector, Subscription, connect
from mafalda.client.media import ClipSpec, Probe, make_clip, open_playback
from tests.e2e.conftest import up
from tests.e2e.watched_clip import pid_of, verified

CLIP = ClipSpec(frame_rate=15, duration_s=4)
TIMEOUT_S = 30


async def test_a_subscription_receives_all_of_a_room_whatever_dies(state: Path) -> None:
    clip = await asyncio.to_thread(make_clip, state / "clip.webm", CLIP)
    with up(state, "--workers", "2", "--policy", "spread") as fleet:
        async with (
            asyncio.timeout(120),
            open_playback(clip, loop=True) as playback,
            connect(fleet.nats_url) as client,
            client.join("lobby", "publisher") as publisher,
            client.join("lobby", "viewer") as viewer,
        ):
            assert playback.video is not None
            assert playback.audio is not None
            assert publisher.worker != viewer.worker
            audio = await publisher.produce(playback.audio)
            subscription = await viewer.subscribe()
            heard = await _probe(subscription, audio.id)
            await heard.wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)
            video = await publisher.produce(playback.video)
            seen = await _probe(subscription, video.id)
            await seen.wait_for(frames=15, timeout_s=TIMEOUT_S)
            assert subscription.consumers[video.id].relayed

            for room in (viewer, publisher):
                generation = room.generation
                os.kill(await pid_of(fleet, room.worker), signal.SIGKILL)
                while room.generation == generation:  # noqa: ASYNC110 — frames from before may still be on their way
                    await asyncio.sleep(0.05)
                await seen.wait_for(frames=seen.report.frames_decoded + 30, timeout_s=TIMEOUT_S)
                assert seen.report.frames_wrong == 0
                await verified(fleet)

            watched = subscription.consumers[video.id]
            await subscription.remove(kind="video")
            await watched.wait_closed()
            await subscription.add(kind="video")
            again = await _probe(subscription, video.id)
            await again.wait_for(frames=10, timeout_s=TIMEOUT_S)
            other = await viewer.subscribe(ProducerSelector(kind="audio"))
            await (await _probe(other, audio.id)).wait_for(tone_hz=CLIP.tone_hz, timeout_s=TIMEOUT_S)
            await verified(fleet)
            explained = await asyncio.to_thread(fleet.mafalda, "explain", subscription.id)
            assert "consumers-opened" in explained.stdout
            await subscription.close()
            await other.close()
            await verified(fleet)


async def _probe(subscription: Subscription, producer: str) -> Probe:
    """Watch the subscription's consumer of a producer, as soon as there is one."""
    async for consumer in subscription:
        if consumer.producer_id == producer:
            assert isinstance(consumer, Consumer)
            probe = Probe(CLIP)
            task = asyncio.create_task(probe.run(consumer.track), name="probe")
            task.add_done_callback(lambda it: it.cancelled() or it.exception())
            return probe
    raise AssertionError("the subscription has ended")
