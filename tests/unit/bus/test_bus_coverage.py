"""Coverage, given what a republished subscription can do: lose, repeat, delay; and patterns that come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mafalda.bus.log.coverage import MAX_AHEAD, Coverage, Verdict
from mafalda.contract.subjects import LOG_SUBJECTS

A, B = "mafalda.room.r.event.a", "mafalda.room.r.event.b"


def coverage_of(*patterns: str, base: int = 0) -> Coverage:
    made = Coverage(base)
    made.add(patterns, base)
    return made


def catch_up(coverage: Coverage, log: list[str], end: int) -> list[int]:
    """As a follower does: read the log from what is verified to its end."""
    read = range(coverage.verified + 1, end + 1)
    yielded = [seq for seq in read if coverage.take_from_log(seq, log[seq - 1])]
    coverage.verify(end)
    return yielded


def previous_of(log: list[str], seq: int) -> int:
    return next((s for s in range(seq - 1, 0, -1) if log[s - 1] == log[seq - 1]), 0)


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[str], list[int], bool]:
    log = draw(st.lists(st.sampled_from([A, B, "mafalda.room.q.event.a"]), min_size=1, max_size=25))
    whole = draw(st.booleans())
    republished = [seq for seq, subject in enumerate(log, 1) if whole or subject in (A, B)]
    buffer: list[int] = []
    for seq in republished:
        buffer += [seq] * draw(st.integers(0, 2))  # lost, once, twice
    comes_late = draw(st.booleans())
    if buffer and comes_late:
        late = draw(st.sampled_from(buffer))
        buffer.remove(late)
        buffer.insert(draw(st.integers(0, len(buffer))), late)
    return log, buffer, whole


@given(journeys())
def test_everything_is_yielded_exactly_once(journey: tuple[list[str], list[int], bool]) -> None:
    log, buffer, whole = journey
    coverage = coverage_of(*(LOG_SUBJECTS if whole else (A, B)))
    yielded: list[int] = []
    for seq in buffer:
        verdict = coverage.judge(seq, previous_of(log, seq), log[seq - 1])
        if verdict is Verdict.YIELD:
            yielded.append(seq)
        elif verdict is Verdict.CATCH_UP:
            yielded += catch_up(coverage, log, seq)
        assert coverage.position == max(yielded, default=0) or coverage.position == coverage.verified
    yielded += catch_up(coverage, log, len(log))  # the timer
    assert sorted(yielded) == [seq for seq, subject in enumerate(log, 1) if whole or subject in (A, B)]
    if whole:
        assert yielded == sorted(yielded)  # a follower of everything is never out of order
    assert (coverage.position, coverage.verified, coverage.unverified) == (len(log), len(log), 0)


def test_a_skipped_sequence_means_nothing_to_who_follows_a_part() -> None:
    coverage = coverage_of(A)
    assert coverage.judge(1, 0, A) is Verdict.YIELD
    assert coverage.judge(5, 1, A) is Verdict.YIELD
    assert (coverage.position, coverage.verified, coverage.unverified) == (5, 1, 1)


def test_a_skipped_sequence_is_a_gap_to_who_follows_everything() -> None:
    coverage = coverage_of(*LOG_SUBJECTS)
    assert coverage.judge(1, 0, A) is Verdict.YIELD
    assert coverage.judge(3, 1, A) is Verdict.CATCH_UP


def test_a_previous_one_that_never_came_is_a_gap() -> None:
    coverage = coverage_of(A, B)
    assert coverage.judge(2, 0, B) is Verdict.YIELD
    assert coverage.judge(5, 4, A) is Verdict.CATCH_UP
    assert coverage.position == 2  # until the log was read


def test_what_was_before_a_pattern_was_added_is_no_gap_and_is_not_read_again() -> None:
    coverage = coverage_of(B)
    coverage.add([A], base=4)
    assert coverage.judge(6, 4, A) is Verdict.YIELD
    assert coverage.judge(8, 7, A) is Verdict.CATCH_UP
    assert catch_up(coverage, [A] * 8, 8) == [5, 7, 8]


def test_what_was_removed_is_not_read() -> None:
    coverage = coverage_of(A, B)
    coverage.remove([A])
    assert catch_up(coverage, [A, B, A], 3) == [2]


def test_adding_what_is_followed_changes_nothing() -> None:
    coverage = coverage_of(A)
    coverage.add([A], base=9)
    assert coverage.take_from_log(3, A)


def test_a_pattern_that_begins_before_the_end_of_a_read_keeps_it_unverified() -> None:
    coverage = coverage_of(A)
    read_for = coverage.patterns
    coverage.add([B], base=3)
    coverage.audited(read_for, 5)
    assert coverage.verified == 0
    coverage.audited(read_for, 3)
    assert coverage.verified == 3


def test_whoever_removes_a_part_follows_the_whole_log_no_more() -> None:
    coverage = coverage_of(">", *LOG_SUBJECTS)
    coverage.remove([">"])
    assert coverage.judge(2, 0, A) is Verdict.CATCH_UP
    coverage.remove(LOG_SUBJECTS[:1])
    coverage.add([A], base=0)
    assert coverage.judge(2, 0, A) is Verdict.YIELD


def test_an_entry_far_beyond_the_logs_end_is_looked_up_before_it_is_yielded() -> None:
    coverage = coverage_of(A)
    assert coverage.judge(MAX_AHEAD + 1, 0, A) is Verdict.CATCH_UP
    coverage.caught_up([A], 5)
    assert coverage.position == 5
    assert coverage.judge(6, 0, A) is Verdict.YIELD


def test_a_forged_sequence_costs_one_read_of_the_log() -> None:
    coverage = coverage_of(A)
    assert coverage.judge(1, 0, A, "m1") is Verdict.YIELD
    assert coverage.judge(1_000, 1, A, "forged") is Verdict.YIELD
    assert coverage.judge(2, 1, A, "m2") is Verdict.CATCH_UP
    assert not coverage.take_from_log(1, A, "m1")
    assert coverage.take_from_log(2, A, "m2")
    coverage.caught_up([A], 2)
    assert [coverage.judge(seq, seq - 1, A, f"m{seq}") for seq in (3, 4, 5)] == [Verdict.YIELD] * 3


def test_what_the_log_has_is_yielded_although_its_sequence_was_forged_before() -> None:
    coverage = coverage_of(A)
    assert coverage.judge(2, 0, A, "forged") is Verdict.YIELD
    assert coverage.judge(2, 0, A, "m2") is Verdict.CATCH_UP
    assert coverage.take_from_log(2, A, "m2")
    assert not coverage.take_from_log(2, A, "m2")


def test_what_stays_beyond_the_logs_end_is_forgotten() -> None:
    coverage = coverage_of(A)
    assert coverage.judge(500, 0, A, "forged") is Verdict.YIELD
    coverage.audited([A], 3)
    assert coverage.unverified == 1  # it may have been stored after the end was read
    coverage.audited([A], 4)
    assert coverage.unverified == 0


def test_a_forged_next_entry_does_not_replace_the_real_one() -> None:
    coverage = coverage_of(*LOG_SUBJECTS)
    assert coverage.judge(1, 0, A, "m1") is Verdict.YIELD
    assert coverage.judge(2, 1, A, "forged") is Verdict.YIELD
    assert coverage.judge(2, 1, A, "m2") is Verdict.CATCH_UP
    assert coverage.verified == 1
    assert coverage.take_from_log(2, A, "m2")
    coverage.caught_up(LOG_SUBJECTS, 2)
    assert coverage.judge(2, 1, A, "m2") is Verdict.SKIP
    assert coverage.judge(3, 2, A, "m3") is Verdict.YIELD


def test_what_is_read_again_after_a_forgery_is_not_yielded_again() -> None:
    coverage = coverage_of(*LOG_SUBJECTS)
    for seq in range(1, 6):
        assert coverage.judge(seq, seq - 1, A, f"m{seq}") is Verdict.YIELD
    coverage.audited(LOG_SUBJECTS, 5)
    assert coverage.judge(3, 2, A, "forged") is Verdict.CATCH_UP
    assert [seq for seq in range(1, 6) if coverage.take_from_log(seq, A, f"m{seq}")] == []
    coverage.caught_up(LOG_SUBJECTS, 5)
    assert (coverage.position, coverage.verified, coverage.unverified) == (5, 5, 0)
