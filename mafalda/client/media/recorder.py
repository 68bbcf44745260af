"""Recording a track into a file of its own, with the times at which its frames came.

Encoding runs in a thread; an encoder that is too slow makes the track's own queue drop frames, not
the event loop late.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

_SAMPLE_RATE = 48_000
_SAMPLES_PER_FRAME = 960
_VIDEO_TIME_BASE = Fraction(1, 1000)  # Matroska's own

_Frame = av.VideoFrame | av.AudioFrame


async def record_track(track: MediaStreamTrack, path: Path) -> int:
    """Write a track into a WebM or Matroska file until it ends, or until this is cancelled: the file is whole then too.

    Returns:
        How many frames were written; no frame at all leaves no file.
    """
    event_loop = asyncio.get_running_loop()
    writer = _Writer(path)
    with ThreadPoolExecutor(1, thread_name_prefix="recorder") as thread:
        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.VideoFrame | av.AudioFrame):
                    await event_loop.run_in_executor(thread, writer.write, frame)
        except MediaStreamError:
            return writer.frames
        finally:
            await asyncio.shield(event_loop.run_in_executor(thread, writer.close))


class _Writer:
    """One file with one stream; opened by its first frame, which has what it needs to know."""

    def __init__(self, path: Path) -> None:
        self.frames = 0
        self._path = path
        self._container: av.container.OutputContainer | None = None
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None
        self._resampler = av.AudioResampler("s16", "stereo", _SAMPLE_RATE, frame_size=_SAMPLES_PER_FRAME)
        self._start_s: Fraction | None = None
        self._last_ms = -1

    def write(self, frame: _Frame) -> None:
        if self._container is None:
            self._open(frame)
        at_s = Fraction(frame.pts or 0) * Fraction(frame.time_base or 1)
        self._start_s = at_s if self._start_s is None else self._start_s
        self.frames += 1
        if isinstance(frame, av.VideoFrame):
            self._write_picture(frame, at_s - self._start_s)
        else:
            self._write_sound(frame, at_s - self._start_s)

    def close(self) -> None:
        if self._container is not None:
            if self._video is not None:
                self._container.mux(self._video.encode(None))
            if self._audio is not None:
                self._container.mux(self._audio.encode(None))
            self._container.close()
            self._container = None

    def _open(self, frame: _Frame) -> None:
        self._container = av.open(str(self._path), "w")
        if isinstance(frame, av.VideoFrame):
            self._video = video = self._container.add_stream("libvpx", rate=30)
            video.width, video.height, video.pix_fmt = frame.width, frame.height, "yuv420p"
            video.codec_context.time_base = _VIDEO_TIME_BASE
            video.bit_rate = max(300_000, frame.width * frame.height * 4)
            video.options = {"deadline": "realtime", "cpu-used": "8"}
            video.codec_context.thread_count = 1  # libvpx' threads spin while they wait for each other
        else:
            self._audio = self._container.add_stream("libopus", rate=_SAMPLE_RATE, layout="stereo")

    def _write_picture(self, frame: av.VideoFrame, at_s: Fraction) -> None:
        assert self._container is not None
        assert self._video is not None
        if (frame.width, frame.height) != (self._video.width, self._video.height) or frame.format.name != "yuv420p":
            frame = frame.reformat(self._video.width, self._video.height, "yuv420p")  # another simulcast layer
        self._last_ms = max(self._last_ms + 1, round(at_s / _VIDEO_TIME_BASE))
        frame.pts, frame.time_base = self._last_ms, _VIDEO_TIME_BASE
        self._container.mux(self._video.encode(frame))

    def _write_sound(self, frame: av.AudioFrame, at_s: Fraction) -> None:
        assert self._container is not None
        assert self._audio is not None
        frame.pts, frame.time_base = round(at_s * frame.sample_rate), Fraction(1, frame.sample_rate)
        for part in self._resampler.resample(frame):
            self._container.mux(self._audio.encode(part))
