"""A token bucket, by which agents and allocators count what a peer sends. Pure; times are monotonic seconds.

A bucket is full at first, loses tokens for what is done, and gains ``rate`` tokens a second.
"""

from __future__ import annotations


class TokenBucket:
    """One bucket.

    Args:
        rate: Tokens gained a second.
        size: Tokens of a full bucket.
        now: The present time.
    """

    def __init__(self, rate: float, size: float, now: float) -> None:
        self.rate, self.size = rate, size
        self._tokens, self._at = size, now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` tokens are there (or a full bucket, if it has fewer); 0: they are."""
        self._tokens = min(self.size, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return max(0.0, min(amount, self.size) - self._tokens) / self.rate

    def take(self, amount: float) -> None:
        """Take tokens, after ``wait_s`` has returned 0."""
        self._tokens -= min(amount, self.size)
