"""Patterns, against a plain definition of what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mafalda.bus.log.patterns import MAX_FILTERS, PatternSet, check_pattern, collide, cover, matches, to_regex
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


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_patterns_that_share_a_subject_collide(one: str, other: str, subject: str) -> None:
    if matches(one, subject) and matches(other, subject):
        assert collide(one, other)
    assert collide(one, other) == collide(other, one)


@given(st.lists(PATTERNS, min_size=1, max_size=8), st.integers(1, 8), SUBJECTS)
def test_a_cover_takes_all_and_never_overlaps(patterns: list[str], limit: int, subject: str) -> None:
    filters = cover(patterns, limit)
    assert len(filters) <= limit
    assert not any(collide(a, b) for i, a in enumerate(filters) for b in filters[i + 1 :])
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
