"""New SSRCs. Every function that needs one takes an ``SsrcSource``, so that tests can give their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable

SsrcSource = Callable[[], int]
"""Returns the first SSRC of a run of consecutive ones, with room above it for the longest run."""

_LOWEST = 100_000_000
_COUNT = 900_000_000 - 1


def random_ssrc() -> int:
    """A random SSRC of nine decimal digits, as mediasoup chooses them."""
    return _LOWEST + secrets.randbelow(_COUNT)
