"""ActiveSpeakerObserver and AudioLevelObserver: what they emit for real packets, and their closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mafalda.errors import InvalidParameters, NotFound
from mafalda.mediasoup import AudioLevelObserver, DirectTransport, Producer, Router, RtpObserver, Worker
from mafalda.mediasoup.errors import ObjectClosed
from tests.conformance.mediasoup.driver_samples import MEDIA_CODECS, audio, opus_packet, until

Recorder = Callable[..., list[tuple[str, Any]]]
Maker = Callable[[Router], Any]
MAKERS: list[Maker] = [
    lambda router: router.create_active_speaker_observer(),
    lambda router: router.create_audio_level_observer(),
]


@pytest.fixture(params=["", "~room"], ids=["plain", "scoped"])
async def router(worker: Worker, request: pytest.FixtureRequest) -> Router:
    """Also one whose producers have other ids in the worker, as those of an agent."""
    return await worker.create_router(media_codecs=MEDIA_CODECS, scope=request.param)


@pytest.fixture
async def direct(router: Router) -> DirectTransport:
    return await router.create_direct_transport()


async def speak(producer: Producer, ssrc: int, *levels: int) -> None:
    """Send packets with these audio levels in turn, as often as a microphone does, until cancelled."""
    sequence = 0
    while True:
        producer.send(opus_packet(sequence, ssrc, levels[sequence % len(levels)]))
        sequence += 1
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("make", MAKERS)
async def test_life(router: Router, direct: DirectTransport, record: Recorder, make: Maker) -> None:
    seen = record(router, "newrtpobserver")
    observer: RtpObserver = await make(router)
    assert seen == [("newrtpobserver", observer)]
    assert (observer.closed, observer.paused) == (False, False)
    assert router.rtp_observers == {observer.id: observer}
    assert (await router.dump())["rtpObserverIds"] == [observer.id]
    producer = await direct.produce(**audio())
    of_observer = record(observer, "pause", "resume", "addproducer", "removeproducer", "close")
    await observer.pause()
    await observer.pause()
    assert [observer.paused] == [True]
    await observer.resume()
    assert [observer.paused] == [False]
    await observer.add_producer(producer_id=producer.id)
    assert (await router.dump())["mapProducerIdObserverIds"] == [{"key": producer.id, "values": [observer.id]}]
    await observer.remove_producer(producer_id=producer.id)
    for method in (observer.add_producer, observer.remove_producer):
        with pytest.raises(NotFound):
            await method(producer_id="nobody")
    await observer.close()
    assert [event for event, _ in of_observer] == ["pause", "resume", "addproducer", "removeproducer", "close"]
    assert (await router.dump())["rtpObserverIds"] == []
    for call in (observer.pause, observer.resume):
        with pytest.raises(ObjectClosed):
            await call()


@pytest.mark.parametrize("make", MAKERS)
async def test_ends_with_its_router(router: Router, record: Recorder, make: Maker) -> None:
    observer: RtpObserver = await make(router)
    seen = record(observer, "routerclose", "close")
    await router.close()
    assert seen == [("routerclose", None), ("close", "routerclose")]


@pytest.mark.parametrize(
    "options",
    [
        *({"max_entries": wrong} for wrong in (0, -5, "1", 70000)),
        *({"threshold": wrong} for wrong in (1, -128, "-80")),
        *({"interval": wrong} for wrong in (-1, 70000, "1")),
    ],
)
async def test_wrong_options(router: Router, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        await router.create_audio_level_observer(**options)
    assert (await router.dump())["rtpObserverIds"] == []


async def test_wrong_interval_of_the_speaker_observer(router: Router) -> None:
    for interval in (-1, 70000, "300", 1.5):
        with pytest.raises(InvalidParameters):
            await router.create_active_speaker_observer(interval=interval)  # type: ignore[arg-type]


async def test_volumes_and_silence(router: Router, direct: DirectTransport, record: Recorder) -> None:
    observer: AudioLevelObserver = await router.create_audio_level_observer(max_entries=1, threshold=-60, interval=250)
    loud, quiet = await direct.produce(**audio(ssrc=1)), await direct.produce(**audio(ssrc=2, payload_type=111))
    for producer in (loud, quiet):
        await observer.add_producer(producer_id=producer.id)
    seen = record(observer, "volumes", "silence")
    speakers = [asyncio.create_task(speak(loud, 1, 20)), asyncio.create_task(speak(quiet, 2, 50))]
    await until(lambda: any(event == "volumes" for event, _ in seen))
    for speaker in speakers:
        speaker.cancel()
    volumes = next(payload for event, payload in seen if event == "volumes")
    assert [(item.producer, item.volume) for item in volumes] == [(loud, -20)]
    await until(lambda: seen[-1][0] == "silence")


async def test_the_dominant_speaker(router: Router, direct: DirectTransport) -> None:
    observer = await router.create_active_speaker_observer(interval=300)
    silent, speaking = await direct.produce(**audio(ssrc=1)), await direct.produce(**audio(ssrc=2))
    for producer in (silent, speaking):
        await observer.add_producer(producer_id=producer.id)
    # Speech goes up and down; a steady level is taken for noise.
    speech = [*[10] * 15, *[100] * 5]
    speakers = [asyncio.create_task(speak(silent, 1, 127)), asyncio.create_task(speak(speaking, 2, *speech))]
    try:
        dominant = await observer.wait("dominantspeaker", timeout_s=20, predicate=lambda it: it is speaking)
        assert dominant is speaking
    finally:
        for speaker in speakers:
            speaker.cancel()
