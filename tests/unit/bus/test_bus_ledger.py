"""The ledger, fed with what a fast lane can do: lose, repeat, come late; and with patterns that come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mafalda.bus.log.coverage import Ledger, Verdict
from mafalda.contract.subjects import LOG_SUBJECTS

A, B = "mafalda.room.r.event.a", "mafalda.room.r.event.b"


def ledger(*patterns: str, base: int = 0) -> Ledger:
    made = Ledger(base)
    made.add(patterns, base)
    return made


def mend(account: Ledger, log: list[str], end: int) -> list[int]:
    """What the shell does: read the log from what is verified, to its end."""
    read = range(account.verified + 1, end + 1)
    yielded = [seq for seq in read if account.logged(seq, log[seq - 1])]
    account.verify(end)
    return yielded


def previous_of(log: list[str], seq: int) -> int:
    return next((s for s in range(seq - 1, 0, -1) if log[s - 1] == log[seq - 1]), 0)


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[str], list[int], bool]:
    log = draw(st.lists(st.sampled_from([A, B, "mafalda.room.q.event.a"]), min_size=1, max_size=25))
    whole = draw(st.booleans())
    carried = [seq for seq, subject in enumerate(log, 1) if whole or subject in (A, B)]
    arrivals: list[int] = []
    for seq in carried:
        arrivals += [seq] * draw(st.integers(0, 2))  # lost, once, twice
    comes_late = draw(st.booleans())
    if arrivals and comes_late:
        late = draw(st.sampled_from(arrivals))
        arrivals.remove(late)
        arrivals.insert(draw(st.integers(0, len(arrivals))), late)
    return log, arrivals, whole


@given(journeys())
def test_everything_is_yielded_exactly_once(journey: tuple[list[str], list[int], bool]) -> None:
    log, arrivals, whole = journey
    account = ledger(*(LOG_SUBJECTS if whole else (A, B)))
    yielded: list[int] = []
    for seq in arrivals:
        verdict = account.offer(seq, previous_of(log, seq), log[seq - 1])
        if verdict is Verdict.YIELD:
            yielded.append(seq)
        elif verdict is Verdict.MEND:
            yielded += mend(account, log, seq)
        assert account.position == max(yielded, default=0) or account.position == account.verified
    yielded += mend(account, log, len(log))  # the timer
    assert sorted(yielded) == [seq for seq, subject in enumerate(log, 1) if whole or subject in (A, B)]
    if whole:
        assert yielded == sorted(yielded)  # a follower of everything is never out of order
    assert (account.position, account.verified, account.unverified) == (len(log), len(log), 0)


def test_a_skipped_sequence_means_nothing_to_who_follows_a_part() -> None:
    account = ledger(A)
    assert account.offer(1, 0, A) is Verdict.YIELD
    assert account.offer(5, 1, A) is Verdict.YIELD
    assert (account.position, account.verified, account.unverified) == (5, 1, 1)


def test_a_skipped_sequence_is_a_hole_to_who_follows_everything() -> None:
    account = ledger(*LOG_SUBJECTS)
    assert account.offer(1, 0, A) is Verdict.YIELD
    assert account.offer(3, 1, A) is Verdict.MEND


def test_a_previous_one_that_never_came_is_a_hole() -> None:
    account = ledger(A, B)
    assert account.offer(2, 0, B) is Verdict.YIELD
    assert account.offer(5, 4, A) is Verdict.MEND
    assert account.position == 2  # until the log was read


def test_what_was_before_a_pattern_was_added_is_no_hole_and_is_not_mended() -> None:
    account = ledger(B)
    account.add([A], base=4)
    assert account.offer(6, 4, A) is Verdict.YIELD
    assert account.offer(8, 7, A) is Verdict.MEND
    assert mend(account, [A] * 8, 8) == [5, 7, 8]


def test_what_was_removed_is_not_mended() -> None:
    account = ledger(A, B)
    account.remove([A])
    assert mend(account, [A, B, A], 3) == [2]


def test_adding_what_is_followed_changes_nothing() -> None:
    account = ledger(A)
    account.add([A], base=9)
    assert account.logged(3, A)
