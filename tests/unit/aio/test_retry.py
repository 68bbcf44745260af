"""Retries happen for what was named, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mafalda.aio.retry import retrying
from mafalda.errors import BusUnavailable, MafaldaError, PermissionDenied


async def _attempt(outcomes: Iterator[MafaldaError | None], give_up_after_s: float | None = None) -> int:
    """How many attempts it took, each failing with the next of ``outcomes``."""
    tries = 0
    async for attempt in retrying(BusUnavailable, action="tried_again", first_s=0.001, give_up_after_s=give_up_after_s):
        with attempt:
            tries += 1
            if error := next(outcomes):
                raise error
    return tries


async def test_it_tries_until_it_works() -> None:
    away = BusUnavailable("away")
    assert await _attempt(iter((away, away, away, None))) == 4


async def test_what_was_not_named_is_raised_at_once() -> None:
    outcomes = iter((PermissionDenied("never"), None))
    with pytest.raises(PermissionDenied):
        await _attempt(outcomes)
    assert next(outcomes) is None


async def test_it_gives_up_with_the_last_error() -> None:
    with pytest.raises(BusUnavailable, match="away"):
        await _attempt(iter(lambda: BusUnavailable("away"), None), give_up_after_s=0.01)


async def test_it_waits_as_it_is_told_to() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async for attempt in retrying(BusUnavailable, action="tried_again", first_s=10, longest_s=30, sleep=sleep):
        with attempt:
            if len(waits) < 4:
                raise BusUnavailable("away")
    assert 10 <= waits[0] <= 15
    assert waits[-1] == 30
