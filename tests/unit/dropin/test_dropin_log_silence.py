"""How long the log has not answered, and what does not count."""

from __future__ import annotations

from mafalda.dropin.fleet.log_silence import CHECK_INTERVAL_S, LogSilence, Silence


def _checks(silence: LogSilence, first: float, last: float) -> Silence | None:
    """The last of the checks in a span of time."""
    found = None
    while first <= last:
        found = silence.check(first)
        first += CHECK_INTERVAL_S
    return found


def test_a_silence_has_a_cause_and_an_end() -> None:
    silence = LogSilence(12, 0)
    assert silence.check(2) is None
    assert _checks(silence, 4, 6) == Silence(6, "no answer to any request", is_too_long=False)
    silence.failed("connection refused")
    assert _checks(silence, 8, 12) == Silence(12, "connection refused", is_too_long=True)


def test_a_late_answer_is_an_answer() -> None:
    silence = LogSilence(12, 0)
    assert _checks(silence, 2, 10) is not None
    silence.failed("one of several requests")
    silence.answered(11)
    assert silence.check(12) is None
    assert _checks(silence, 14, 16) == Silence(5, "no answer to any request", is_too_long=False)


def test_time_in_which_this_process_stood_still_does_not_count() -> None:
    silence = LogSilence(12, 0)
    assert silence.check(2) is None
    assert silence.check(60) == Silence(4, "no answer to any request", is_too_long=False)
