"""Whether a worker answers: the oldest unanswered probe counts, and time in which nobody looked does not."""

from __future__ import annotations

from mafalda.workers.supervision.responsiveness import Responsiveness


def probed() -> Responsiveness:
    """A worker that was probed at second 100."""
    responsiveness = Responsiveness(timeout_s=1, kill_after_s=8)
    responsiveness.asked(100)
    return responsiveness


def test_an_answer_gives_the_round_trip() -> None:
    responsiveness = probed()
    responsiveness.answered(100.25)
    assert (responsiveness.latency_s(107), responsiveness.state(107)) == (0.25, "ready")


def test_an_unanswered_probe_counts_by_its_age() -> None:
    responsiveness = probed()
    assert (responsiveness.latency_s(101), responsiveness.state(101)) == (1, "ready")
    assert (responsiveness.latency_s(101.5), responsiveness.state(101.5)) == (1.5, "unresponsive")


def test_the_oldest_of_several_unanswered_probes_counts() -> None:
    responsiveness = probed()
    responsiveness.asked(107)
    assert responsiveness.latency_s(107.5) == 7.5
    assert not responsiveness.is_kill_due(108)
    assert responsiveness.is_kill_due(108.5)


def test_a_late_answer_makes_it_ready_and_slow() -> None:
    responsiveness = probed()
    responsiveness.answered(106)
    assert (responsiveness.latency_s(120), responsiveness.state(120)) == (6, "ready")
    assert not responsiveness.is_kill_due(120)


def test_time_in_which_the_agent_itself_stood_still_does_not_count() -> None:
    responsiveness = probed()
    responsiveness.stood_still(60)
    assert (responsiveness.latency_s(160.5), responsiveness.state(160.5)) == (0.5, "ready")
    responsiveness.answered(160.5)
    responsiveness.stood_still(60)
    assert responsiveness.latency_s(221) == 0.5
