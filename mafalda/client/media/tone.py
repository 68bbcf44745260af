"""Find the frequency that dominates some sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Of all energy this part must be within a few bins of the peak, else it is no tone but a noise.
_PURITY = 0.5
_QUIET = 0.001  # root mean square of full scale


def find_tone(samples: NDArray[np.float32], sample_rate: int) -> float | None:
    """The frequency of a pure tone in Hz, or ``None`` if there is silence or a mixture.

    Args:
        samples: One channel, -1 to 1. Half a second gives a precision better than 1 Hz.
        sample_rate: Hertz.
    """
    if len(samples) < 1024 or float(np.sqrt(np.mean(samples**2))) < _QUIET:
        return None
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    peak = int(np.argmax(power[1:-1])) + 1
    near = power[max(0, peak - 4) : peak + 5].sum()
    if near < _PURITY * power.sum():
        return None
    # A parabola through the logarithm of three bins gives the peak between them.
    left, middle, right = np.log(power[peak - 1 : peak + 2] + 1e-20)
    shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return float((peak + shift) * sample_rate / len(samples))
