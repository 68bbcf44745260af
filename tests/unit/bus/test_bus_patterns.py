"""Patterns, against a plain definition of what they mean, and what sets of many of them cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.bus.log import patterns as patterns_module
from mafalda.bus.log.coverage import Coverage
from mafalda.bus.log.patterns import MAX_FILTERS, PatternSet, check_pattern, cover, matches, to_regex
from mafalda.contract.subjects import LOG_SUBJECTS

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
) | st.just(">")


@given(PATTERNS, SUBJECTS)
def test_all_ways_to_match_agree(pattern: str, subject: str) -> None:
    expected = to_regex([pattern]).fullmatch(subject) is not None
    assert matches(pattern, subject) == expected
    assert PatternSet([pattern]).takes(subject) == expected


@given(st.lists(PATTERNS, max_size=6), SUBJECTS)
def test_a_set_finds_each_pattern_once(patterns: list[str], subject: str) -> None:
    assert sorted(PatternSet(patterns).find(subject)) == sorted({p for p in patterns if matches(p, subject)})


@given(st.lists(PATTERNS, max_size=8), st.data(), SUBJECTS)
def test_what_is_discarded_is_found_no_more(patterns: list[str], data: st.DataObject, subject: str) -> None:
    gone = data.draw(st.lists(st.sampled_from([*patterns, "a.never.added"])))
    changed = PatternSet(patterns)
    for pattern in gone:
        changed.discard(pattern)
    left = [pattern for pattern in dict.fromkeys(patterns) if pattern not in gone]
    assert list(changed) == left
    assert len(changed) == len(left)
    assert sorted(changed.find(subject)) == sorted(PatternSet(left).find(subject))
    assert (changed.find_overlapping(">") is None) == (not left)


def overlap(one: str, other: str) -> bool:
    return PatternSet([one]).find_overlapping(other) is not None


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_patterns_that_share_a_subject_overlap(one: str, other: str, subject: str) -> None:
    if matches(one, subject) and matches(other, subject):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@given(st.lists(PATTERNS, max_size=8), PATTERNS)
def test_a_set_finds_an_overlapping_pattern_if_there_is_one(patterns: list[str], pattern: str) -> None:
    found = PatternSet(patterns).find_overlapping(pattern)
    if found is None:
        assert not any(overlap(one, pattern) for one in patterns)
    else:
        assert found in patterns
        assert overlap(found, pattern)


@given(st.lists(PATTERNS, min_size=1, max_size=8), st.integers(1, 8), SUBJECTS)
def test_a_cover_takes_all_and_never_overlaps(patterns: list[str], limit: int, subject: str) -> None:
    filters = cover(patterns, limit)
    assert len(filters) <= limit
    assert not any(overlap(a, b) for i, a in enumerate(filters) for b in filters[i + 1 :])
    if PatternSet(patterns).takes(subject):
        assert PatternSet(filters).takes(subject)


def test_what_does_not_overlap_is_covered_by_itself() -> None:
    assert cover(LOG_SUBJECTS) == list(LOG_SUBJECTS)


def test_many_of_one_shape_become_one() -> None:
    many = [f"mafalda.room.r{i}.peer.p{i}.intent.*" for i in range(MAX_FILTERS + 1)]
    assert cover([*many, "mafalda.command.*.s.*"]) == ["mafalda.room.*.peer.*.intent.*", "mafalda.command.*.s.*"]


@pytest.mark.parametrize("pattern", ["", ".", "a..b", "a.", ">.a", "a*", "a>.b", "a b", "a\r\nb"])
def test_what_nats_would_not_take(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a subject pattern"):
        check_pattern(pattern)


def lines_executed(work: Callable[[], object]) -> int:
    """How many lines of ``patterns.py`` run: its cost, whatever else the machine does."""
    executed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal executed
        if frame.f_code.co_filename != patterns_module.__file__:
            return None
        executed += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return executed


def intents(peers: int) -> list[str]:
    """What an agent with so many peers follows."""
    return [f"mafalda.room.r{peer % 50}.peer.p{peer}.intent.*" for peer in range(peers)]


@pytest.mark.parametrize("more", [[], ["mafalda.command.*.s1.*", "mafalda.room.*.peer.p1.intent.join"]])
def test_the_cost_of_a_cover_is_linear(more: list[str]) -> None:
    few, many = (lines_executed(lambda n=n: cover([*intents(n), *more])) for n in (500, 2000))  # type: ignore[misc]
    assert few < many < 4.5 * few


def test_adding_a_pattern_costs_the_same_whatever_is_followed_already() -> None:
    def cost(followed: int) -> int:
        coverage = Coverage(0)
        coverage.add(intents(followed), base=0)
        added = "mafalda.room.new.peer.new.intent.*"

        def add_and_remove() -> None:
            coverage.add([added], base=1)
            assert coverage.take_from_log(2, "mafalda.room.new.peer.new.intent.join")
            coverage.remove([added])
            assert not coverage.lacks(3, "mafalda.room.new.peer.new.intent.join")

        return lines_executed(add_and_remove)

    assert cost(10) == cost(2000)
