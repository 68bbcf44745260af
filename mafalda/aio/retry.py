"""Retries with exponential back-off and jitter, by tenacity."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, stop_never
from tenacity.wait import wait_exponential_jitter

_log = structlog.get_logger("mafalda.aio")


def retrying(
    *on: type[Exception],
    action: str,
    first_s: float = 0.1,
    longest_s: float = 2.0,
    give_up_after_s: float | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    **fields: Any,
) -> AsyncRetrying:
    """Attempts until one succeeds: ``async for attempt in`` the returned object, then ``with attempt:`` the work.

    Args:
        on: The exceptions after which to try again; others are raised at once.
        action: The ``action`` of the log line for each failed attempt.
        first_s: The wait after the first failure, in seconds; it doubles each time, with jitter.
        longest_s: The longest wait, in seconds.
        give_up_after_s: After so many seconds the last exception is raised; ``None``: never.
        sleep: Waits between attempts, such as ``PausableClock.sleep``, on which no time passes during an outage.
        fields: Further fields of the log line.
    """

    def log_attempt(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.warning("trying again", action=action, attempt=state.attempt_number, reason=str(error or ""), **fields)

    return AsyncRetrying(
        retry=retry_if_exception_type(on),
        wait=wait_exponential_jitter(multiplier=first_s, max=longest_s, jitter=first_s / 2),
        stop=stop_never if give_up_after_s is None else stop_after_delay(give_up_after_s),
        before_sleep=log_attempt,
        sleep=sleep,
        reraise=True,
    )
