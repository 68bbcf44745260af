"""Whether a worker answers its probes, and since when it does not. Pure."""

from __future__ import annotations

from mafalda.contract.messages.load import WorkerReadiness


class Responsiveness:
    """The answers of one worker to its probes. Times are seconds, monotonic.

    | state | until |
    | --- | --- |
    | ready | the oldest unanswered probe is older than ``timeout_s`` |
    | unresponsive | a probe is answered, or ``is_kill_due``: the oldest unanswered one is older than ``kill_after_s`` |

    Args:
        timeout_s: Age of an unanswered probe from which on the worker is unresponsive, in seconds.
        kill_after_s: Age from which on the worker is to be killed, in seconds.
    """

    def __init__(self, timeout_s: float, kill_after_s: float) -> None:
        self._timeout_s = timeout_s
        self._kill_after_s = kill_after_s
        self._unanswered_since_s: float | None = None
        self._latency_s = 0.0

    def asked(self, now: float) -> None:
        """A probe was sent; an earlier one may still be unanswered."""
        if self._unanswered_since_s is None:
            self._unanswered_since_s = now

    def answered(self, now: float) -> None:
        """The worker answered a probe."""
        self._latency_s = self._age_s(now)
        self._unanswered_since_s = None

    def stood_still(self, duration_s: float) -> None:
        """This process did not run for so long, so it saw no answer; the worker may have been suspended as well."""
        if self._unanswered_since_s is not None:
            self._unanswered_since_s += duration_s

    def latency_s(self, now: float) -> float:
        """The round trip of the last probe, or the age of the oldest unanswered one if that is greater, in seconds."""
        return max(self._latency_s, self._age_s(now))

    def state(self, now: float) -> WorkerReadiness:
        """Whether the worker is unresponsive."""
        return "unresponsive" if self._age_s(now) > self._timeout_s else "ready"

    def is_kill_due(self, now: float) -> bool:
        """Whether the worker has been unresponsive for so long that it is to be killed."""
        return self._age_s(now) > self._kill_after_s

    def _age_s(self, now: float) -> float:
        return 0.0 if self._unanswered_since_s is None else max(0.0, now - self._unanswered_since_s)
