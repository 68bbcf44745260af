"""Stand-in tracks and the queue that they wait in."""

from __future__ import annotations

import asyncio
import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.client.webrtc.tracks import IncomingTrack, OutgoingTrack
from mafalda.errors import Broken, Closed, NotFound


class Numbers(MediaStreamTrack):
    """A source whose frames are numbered by their timestamps, and that ends after some."""

    kind = "video"

    def __init__(self, count: int, start: int = 0) -> None:
        super().__init__()
        self.left = list(range(start, start + count))

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(0)
        if not self.left:
            self.stop()
            raise MediaStreamError
        frame = av.VideoFrame.from_ndarray(np.zeros((36, 32), np.uint8), format="yuv420p")
        frame.pts, frame.time_base = self.left.pop(0) * 3000, Fraction(1, 90_000)
        return frame


async def test_stopping_a_stand_in_leaves_the_source_alone() -> None:
    source = Numbers(3)
    first, second = OutgoingTrack(source, paused=False), OutgoingTrack(source, paused=False)
    first.start()
    second.start()
    assert isinstance(await first.recv(), av.VideoFrame)
    first.stop()
    with pytest.raises(MediaStreamError):
        await first.recv()
    assert source.readyState == "live"
    assert isinstance(await second.recv(), av.VideoFrame)


async def test_a_paused_stand_in_keeps_the_source_in_time() -> None:
    source = Numbers(5)
    sent = OutgoingTrack(source, paused=True)
    sent.start()
    with pytest.raises(MediaStreamError):
        await sent.recv()
    assert source.left == []


async def test_time_goes_on_over_receivers() -> None:
    track = IncomingTrack("video", max_queued=100)
    await track.pump(Numbers(5))
    await track.pump(Numbers(5, start=700))
    pts = [(await track.recv()).pts for _ in range(10)]
    steps = np.diff(np.array(pts, dtype=np.int64))
    assert list(steps[:4]) == list(steps[5:]) == [3000] * 4
    assert 0 < steps[4] < 90_000
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_frames_that_nobody_takes_go_the_oldest_first() -> None:
    track = IncomingTrack("video", max_queued=3)
    await track.pump(Numbers(5))
    assert track.dropped == 2
    track.stop()
    assert [(await track.recv()).pts for _ in range(3)] == [6000, 9000, 12000]


async def test_a_queue_gives_all_that_came_before_its_end() -> None:
    box: BoundedQueue[int] = BoundedQueue(10, overflow="fail")
    box.put(1)
    box.end(NotFound("gone"))
    box.put(2)
    box.end()
    assert await box.take() == 1
    with pytest.raises(NotFound):
        await box.take()


async def test_a_full_queue_that_must_be_complete_fails_after_what_fitted() -> None:
    box: BoundedQueue[int] = BoundedQueue(2, overflow="fail")
    for number in range(5):
        box.put(number)
    assert [await box.take(), await box.take()] == [0, 1]
    with pytest.raises(Broken):
        await box.take()


async def test_a_taker_wakes_up_for_an_item_and_for_the_end() -> None:
    box: BoundedQueue[int] = BoundedQueue(2, overflow="fail")
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.put(7)
    assert await taking == 7
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.end()
    with pytest.raises(Closed):
        await taking


async def test_a_sender_takes_nothing_before_it_is_started() -> None:
    """Another sender has the source until then."""
    source = Numbers(3)
    former, following = OutgoingTrack(source, paused=False), OutgoingTrack(source, paused=False)
    former.start()
    waiting = asyncio.create_task(following.recv())
    assert [(await former.recv()).pts, (await former.recv()).pts] == [0, 3000]
    assert not waiting.done()
    former.stop()
    following.start()
    assert (await waiting).pts == 6000


async def test_a_sender_that_is_never_started_ends() -> None:
    sent = OutgoingTrack(Numbers(3), paused=False)
    waiting = asyncio.create_task(sent.recv())
    await asyncio.sleep(0)
    sent.stop()
    with pytest.raises(MediaStreamError):
        await waiting


async def test_a_receiver_hands_over_at_its_first_frame() -> None:
    track = IncomingTrack("video", max_queued=100)
    former = asyncio.create_task(track.pump(Numbers(10_000)))
    await track.recv()
    await track.pump(Numbers(5, start=700), former.cancel)
    await asyncio.wait([former])
    assert former.cancelled()
    track.stop()
    taken: list[int] = []
    with contextlib.suppress(MediaStreamError):
        while True:
            taken.append((await track.recv()).pts or 0)
    assert taken == sorted(taken), "time never goes back"
