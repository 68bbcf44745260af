"""Playing a file as live tracks, in real time, looped without a jump in its timestamps.

aiortc's own ``MediaPlayer`` starts its timestamps again at each loop. Here a file is decoded in one
thread of its own, and the next round follows the one before without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

VIDEO_TIME_BASE = Fraction(1, 90_000)
SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = 960  # 20 ms, as Opus wants it

MediaFrame = av.VideoFrame | av.AudioFrame


class Playback:
    """A file being played. ``video`` or ``audio`` is ``None`` if the file has none of it."""

    def __init__(self, path: Path, *, loop: bool, thread: ThreadPoolExecutor) -> None:
        with av.open(str(path)) as container:
            duration = Fraction(container.duration or 0, av.time_base)
            has_video, has_audio = bool(container.streams.video), bool(container.streams.audio)
        clock = _Clock()
        self.duration_s = float(duration)
        self.video = FileTrack("video", _pictures(path, duration, loop), clock, thread) if has_video else None
        self.audio = FileTrack("audio", _sound(path, duration, loop), clock, thread) if has_audio else None

    @property
    def tracks(self) -> list[FileTrack]:
        """What there is to play."""
        return [track for track in (self.video, self.audio) if track]

    async def finished(self) -> None:
        """Wait until all tracks have ended; never, if looped."""
        for track in self.tracks:
            await track.finished.wait()


@asynccontextmanager
async def open_playback(path: Path, *, loop: bool = False) -> AsyncIterator[Playback]:
    """Open a file for playing; it starts with the first frame that is asked for.

    Raises:
        OSError: No such file, or nothing that FFmpeg can read (``av.FFmpegError``).
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="playback")
    event_loop = asyncio.get_running_loop()
    try:
        playback = await event_loop.run_in_executor(thread, lambda: Playback(path, loop=loop, thread=thread))
        try:
            yield playback
        finally:
            for track in playback.tracks:
                track.stop()
                await event_loop.run_in_executor(thread, track.close_source)
    finally:
        await asyncio.to_thread(thread.shutdown)


class _Clock:
    """When the first frame was asked for; shared by picture and sound, so that they stay together."""

    def __init__(self) -> None:
        self._start: float | None = None

    async def wait_until(self, media_s: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._start is None:
            self._start = now - media_s
        await asyncio.sleep(max(0.0, self._start + media_s - now))


class FileTrack(MediaStreamTrack):
    """One stream of a file. A ``recv`` that is cancelled loses no frame."""

    def __init__(self, kind: str, source: Iterator[MediaFrame], clock: _Clock, thread: ThreadPoolExecutor) -> None:
        super().__init__()
        self.kind = kind
        self.finished = asyncio.Event()
        self._source = source
        self._clock = clock
        self._thread = thread
        self._pending: asyncio.Future[MediaFrame | None] | None = None

    async def recv(self) -> MediaFrame:
        """The next frame, at its time.

        Raises:
            MediaStreamError: The file ended, or the track was stopped.
        """
        if self.readyState != "live":
            raise MediaStreamError("the track has ended")
        if self._pending is None:
            event_loop = asyncio.get_running_loop()
            self._pending = event_loop.run_in_executor(self._thread, next, self._source, None)
        frame = await asyncio.shield(self._pending)
        if frame is None:
            self.stop()
            raise MediaStreamError("the file has ended")
        await self._clock.wait_until(float((frame.pts or 0) * Fraction(frame.time_base or 1)))
        self._pending = None
        return frame

    def stop(self) -> None:
        self.finished.set()
        super().stop()

    def close_source(self) -> None:
        """Close the file; in the thread that reads it."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _pictures(path: Path, duration: Fraction, loop: bool) -> Iterator[MediaFrame]:
    round_start = Fraction(0)
    while True:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.pts is None or frame.time_base is None:
                    continue
                at = round_start + frame.pts * Fraction(frame.time_base)
                if frame.format.name != "yuv420p":
                    frame = frame.reformat(format="yuv420p")  # what the encoders take
                frame.pts, frame.time_base = int(at / VIDEO_TIME_BASE), VIDEO_TIME_BASE
                yield frame
        round_start += duration
        if not loop:
            return


def _sound(path: Path, duration: Fraction, loop: bool) -> Iterator[MediaFrame]:
    """20 ms frames, stereo. A round is cut or padded to the clip's duration: no drift against the picture."""
    position, wanted = 0, 0
    left_over = np.zeros((1, 0), np.int16)
    while True:
        wanted += int(duration * SAMPLE_RATE)
        for samples in _round(path, wanted - position - left_over.shape[1] // 2):
            left_over = np.concatenate([left_over, samples], axis=1)
            while left_over.shape[1] >= 2 * SAMPLES_PER_FRAME:
                yield _audio_frame(left_over[:, : 2 * SAMPLES_PER_FRAME], position)
                left_over = left_over[:, 2 * SAMPLES_PER_FRAME :]
                position += SAMPLES_PER_FRAME
        if not loop:
            return


def _round(path: Path, samples_left: int) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.int16]]]:
    """Interleaved stereo samples of the file once, exactly ``samples_left`` of each channel."""
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                samples = frame.to_ndarray().astype(np.int16, copy=False)[:, : 2 * samples_left]
                samples_left -= samples.shape[1] // 2
                yield samples
    if samples_left > 0:
        yield np.zeros((1, 2 * samples_left), np.int16)


def _audio_frame(samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]], position: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="stereo")
    frame.pts, frame.sample_rate, frame.time_base = position, SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
    return frame
