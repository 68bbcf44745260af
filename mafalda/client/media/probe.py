"""Probes: consume a track of a clip and report whether what arrives is what was sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mafalda.client.media import counter
from mafalda.client.media.clip import ClipSpec
from mafalda.client.media.tone import find_tone

_LISTEN_S = 0.5


@dataclass(slots=True)
class ProbeReport:
    """What came so far. Times are in seconds since the probe was made."""

    frames_decoded: int = 0
    frames_wrong: int = 0
    frames_skipped: int = 0
    first_frame_s: float | None = None
    last_frame_s: float | None = None
    longest_gap_s: float = 0.0
    audio_frames: int = 0
    first_sound_s: float | None = None
    tone_hz: float | None = None


class VideoProbe:
    """Counts decoded frames, and those that are wrong: unreadable, or going backwards but for a loop."""

    def __init__(self, spec: ClipSpec, report: ProbeReport, start_s: float) -> None:
        self.spec = spec
        self.report = report
        self._start_s = start_s
        self._last: int | None = None

    def take(self, frame: av.VideoFrame, now_s: float) -> None:
        """Judge one decoded frame that came at ``now_s`` (loop time, seconds)."""
        report, at = self.report, now_s - self._start_s
        gap_s = at - report.last_frame_s if report.last_frame_s is not None else 0.0
        report.frames_decoded += 1
        report.first_frame_s = at if report.first_frame_s is None else report.first_frame_s
        report.last_frame_s = at
        report.longest_gap_s = max(report.longest_gap_s, gap_s)
        number = counter.read_number(luma_of(frame))
        if number is None or number >= self.spec.frames:
            report.frames_wrong += 1
            return
        if self._last is not None:
            self._judge_step((number - self._last) % self.spec.frames, gap_s)
        self._last = number

    def _judge_step(self, step: int, gap_s: float) -> None:
        # After a long gap the clip may be anywhere; else more than half a clip ahead means backwards.
        if gap_s < self.spec.duration_s / 4 and step > self.spec.frames / 2:
            self.report.frames_wrong += 1
        else:
            self.report.frames_skipped += max(0, step - 1)


class AudioProbe:
    """Detects the tone in the last half second of sound."""

    def __init__(self, report: ProbeReport, start_s: float) -> None:
        self.report = report
        self._start_s = start_s
        self._recent: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
        self._samples = 0

    def take(self, frame: av.AudioFrame, now_s: float) -> None:
        """Take one decoded frame that came at ``now_s`` (loop time, seconds)."""
        report = self.report
        report.audio_frames += 1
        report.first_sound_s = now_s - self._start_s if report.first_sound_s is None else report.first_sound_s
        samples = mono_of(frame)
        self._recent.append(samples)
        self._samples += len(samples)
        if self._samples >= frame.sample_rate * _LISTEN_S:
            report.tone_hz = find_tone(np.concatenate(self._recent), frame.sample_rate)
            self._recent, self._samples = [], 0


class Probe:
    """Takes any number of tracks of one clip and reports on them together."""

    def __init__(self, spec: ClipSpec = ClipSpec()) -> None:  # noqa: B008 (frozen)
        self.report = ProbeReport()
        self._start_s = asyncio.get_running_loop().time()
        self._video = VideoProbe(spec, self.report, self._start_s)
        self._audio = AudioProbe(self.report, self._start_s)
        self._progress = asyncio.Condition()

    async def run(self, track: MediaStreamTrack) -> None:
        """Take everything of a track until it ends."""
        event_loop = asyncio.get_running_loop()
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                self._video.take(frame, event_loop.time())
            elif isinstance(frame, av.AudioFrame):
                self._audio.take(frame, event_loop.time())
            async with self._progress:
                self._progress.notify_all()

    async def wait_for(self, *, frames: int = 0, tone_hz: float | None = None, timeout_s: float = 20.0) -> ProbeReport:
        """Wait until so many frames are decoded in all, and the tone is found (within 5 Hz).

        Raises:
            TimeoutError: Not in time; the report says how far it came.
        """
        report = self.report

        def enough() -> bool:
            is_found = tone_hz is None or (report.tone_hz is not None and abs(report.tone_hz - tone_hz) < 5)
            return report.frames_decoded >= frames and is_found

        async with asyncio.timeout(timeout_s), self._progress:
            await self._progress.wait_for(enough)
        return report


def luma_of(frame: av.VideoFrame) -> counter.Luma:
    """The luma plane of a decoded frame, height x width."""
    if not frame.format.name.startswith("yuv"):
        frame = frame.reformat(format="yuv420p")
    plane = frame.planes[0]
    rows: counter.Luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def mono_of(frame: av.AudioFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The first channel of a decoded frame, -1 to 1."""
    samples = frame.to_ndarray()
    channel = samples[0] if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))[:, 0]
    scaled = channel / 32768 if samples.dtype == np.int16 else channel
    return scaled.astype(np.float32)
