"""Making a real clip: a file with a moving picture whose frames carry their number, and a pure tone.

Made with PyAV, that is with FFmpeg's libraries; no ``ffmpeg`` binary is needed. What does not
belong here: playing it (``playback``), checking it (``probe``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from pydantic import BaseModel, ConfigDict, Field

from mafalda.client.media import counter

SAMPLE_RATE = 48_000
_AUDIO_FRAME = 960  # 20 ms


class ClipSpec(BaseModel):
    """What a clip shows and sounds like. The defaults are cheap to encode and decode in Python."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(320, ge=64, le=1920, multiple_of=16, description="Pixels.")
    height: int = Field(240, ge=48, le=1088, multiple_of=16, description="Pixels.")
    frame_rate: int = Field(20, ge=1, le=60, description="Frames per second.")
    duration_s: int = Field(10, ge=1, le=600, description="Seconds, whole, so that the tone's phase fits a loop.")
    tone_hz: int = Field(440, ge=50, le=8000, description="Hertz.")

    @property
    def frames(self) -> int:
        """How many frames the clip has; their numbers are 0 to this minus 1."""
        return self.frame_rate * self.duration_s


def make_clip(path: Path, spec: ClipSpec = ClipSpec()) -> Path:  # noqa: B008 (frozen)
    """Write a clip, atomically; its suffix chooses the container (``.webm``, ``.mkv``, ``.mp4``).

    Takes about 0.5 s for the default spec. Blocking: from a coroutine call it in a thread.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        with av.open(partial, "w") as container:
            _mux(container, spec, webm=path.suffix == ".webm")
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def _mux(container: av.container.OutputContainer, spec: ClipSpec, *, webm: bool) -> None:
    video: VideoStream = container.add_stream("libvpx" if webm else "libx264", rate=spec.frame_rate)
    video.width, video.height, video.pix_fmt = spec.width, spec.height, "yuv420p"
    video.time_base = Fraction(1, spec.frame_rate)
    video.bit_rate = spec.width * spec.height * spec.frame_rate // 2
    video.options = {"deadline": "realtime", "cpu-used": "8"} if webm else {"preset": "ultrafast"}
    video.codec_context.thread_count = 1  # libvpx' threads spin while they wait: 50 times slower on a busy machine
    audio: AudioStream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
    sound = _sound(spec)
    for number, picture in enumerate(_pictures(spec)):
        container.mux(video.encode(picture))
        # Interleaved, so that a reader needs no long look ahead.
        until = Fraction(number + 1, spec.frame_rate)
        for frame in sound:
            container.mux(audio.encode(frame))
            if Fraction(int(frame.pts or 0), SAMPLE_RATE) > until:
                break
    for frame in sound:
        container.mux(audio.encode(frame))
    container.mux(video.encode(None))
    container.mux(audio.encode(None))


def _pictures(spec: ClipSpec) -> Iterator[av.VideoFrame]:
    """Numbered frames with a ball that bounces and a gradient that drifts below the number."""
    width, height = spec.width, spec.height
    top = int(height * counter.HEIGHT_RATIO)
    rows, columns = np.mgrid[top:height, 0:width]
    radius = (height - top) // 5
    for number in range(spec.frames):
        plane = np.zeros((height * 3 // 2, width), np.uint8)
        luma = plane[:height]
        counter.write_number(luma, number)
        luma[top:] = 60 + (columns + 2 * number) % width * 120 // width
        phase = 2 * np.pi * number / spec.frames
        x = width / 2 + (width / 2 - radius) * np.sin(5 * phase)
        y = height - radius - (height - top - 2 * radius) * abs(np.cos(15 * phase))
        luma[top:][(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = 220
        plane[height:] = 128
        frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, spec.frame_rate)
        yield frame


def _sound(spec: ClipSpec) -> Iterator[av.AudioFrame]:
    for start in range(0, spec.duration_s * SAMPLE_RATE, _AUDIO_FRAME):
        time_s = np.arange(start, start + _AUDIO_FRAME) / SAMPLE_RATE
        samples = (np.sin(2 * np.pi * spec.tone_hz * time_s) * 0.3 * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = start, SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        yield frame
