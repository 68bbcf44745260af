"""A tone that can be sent and recognised: what the self-test puts into a worker and expects back.

What does not belong here: how it travels (``selftest``).
"""

from __future__ import annotations

import asyncio
import fractions
import math

import av
import numpy as np
from aiortc import MediaStreamTrack

RATE_HZ = 48_000
TONE_HZ = 1000.0

_FRAME_SAMPLES = 960
_FRAME_S = _FRAME_SAMPLES / RATE_HZ
_AMPLITUDE = 12_000
_QUIET_RMS = 1_000.0
_TOLERANCE_HZ = 30.0
_FRAMES_TO_DETECT = 25


class Tone(MediaStreamTrack):
    """An endless sine of ``TONE_HZ`` in frames of 20 ms, at the pace of the clock."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0
        self._started_s: float | None = None

    async def recv(self) -> av.AudioFrame:
        """The next frame, when its time has come."""
        now_s = asyncio.get_running_loop().time()
        if self._started_s is None:
            self._started_s = now_s
        await asyncio.sleep(max(0.0, self._started_s + self._sent * _FRAME_S - now_s))
        first = self._sent * _FRAME_SAMPLES
        phase = (first + np.arange(_FRAME_SAMPLES)) * (2 * math.pi * TONE_HZ / RATE_HZ)
        samples = (np.sin(phase) * _AMPLITUDE).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        frame.pts = first
        self._sent += 1
        return frame


class Listener:
    """Counts decoded frames until enough in a row hold the tone.

    Attributes:
        frames: Frames decoded so far.
        tone_hz: The strongest frequency of the last loud frames; ``None`` if none was loud.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.tone_hz: float | None = None

    async def detect(self, track: MediaStreamTrack) -> None:
        """Return once the tone has come for half a second without a break; wait forever otherwise."""
        matching = 0
        while matching < _FRAMES_TO_DETECT:
            frame = await track.recv()
            if not isinstance(frame, av.AudioFrame):
                continue
            self.frames += 1
            self.tone_hz = strongest_hz(frame)
            matches = self.tone_hz is not None and abs(self.tone_hz - TONE_HZ) <= _TOLERANCE_HZ
            matching = matching + 1 if matches else 0


def strongest_hz(frame: av.AudioFrame) -> float | None:
    """The strongest frequency of a frame of 16-bit samples, in steps of 1 / its length; ``None`` if it is quiet."""
    channels = len(frame.layout.channels)
    samples = frame.to_ndarray().reshape(-1, channels)[:, 0].astype(np.float64)
    if math.sqrt(float(np.mean(samples**2))) < _QUIET_RMS:
        return None
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum[1:]) + 1) * frame.sample_rate / len(samples)
