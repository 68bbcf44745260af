"""Whether the log answers: how long it has not, with what cause, and when that is too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from mafalda.aio.tasks import open_tasks
from mafalda.bus.protocol import Bus
from mafalda.errors import MafaldaError

#: Between two requests to the log, in seconds.
CHECK_INTERVAL_S = 2.0
#: How long the log may not answer until that is reported, in seconds.
REPORT_AFTER_S = 4.0
_NO_ANSWER = "no answer to any request"


@dataclass(frozen=True, slots=True)
class Silence:
    """The log has not answered for some time.

    Args:
        silent_s: For how long, in seconds.
        cause: Why, as far as that is known; never empty.
        is_too_long: Whether that is longer than it may be.
    """

    silent_s: float
    cause: str
    is_too_long: bool


class LogSilence:
    """Measures the time without an answer of the log. Pure.

    An answer counts whenever it comes, however late. Time in which this process did not run is not the log's silence.

    Args:
        timeout_s: How long the log may not answer, in seconds.
        now: Monotonic, in seconds.
    """

    def __init__(self, timeout_s: float, now: float) -> None:
        self._timeout_s = timeout_s
        self._answered_at = self._checked_at = now
        self._cause = ""

    def answered(self, now: float) -> None:
        """The log has answered a request."""
        self._answered_at = now
        self._cause = ""

    def failed(self, cause: str) -> None:
        """A request has failed."""
        self._cause = cause

    def check(self, now: float) -> Silence | None:
        """The silence now, if there is one worth reporting. Called every ``CHECK_INTERVAL_S``."""
        stood_still_s = now - self._checked_at - CHECK_INTERVAL_S
        if stood_still_s > CHECK_INTERVAL_S:
            self._answered_at = min(self._answered_at + stood_still_s, now)
        self._checked_at = now
        silent_s = now - self._answered_at
        if silent_s < min(REPORT_AFTER_S, self._timeout_s):
            return None
        return Silence(silent_s, self._cause or _NO_ANSWER, silent_s >= self._timeout_s)


async def watch_log(
    bus: Bus, timeout_s: float, on_silent: Callable[[str], None], on_lost: Callable[[str], None]
) -> None:
    """Request something of the log again and again, until it has not answered for too long.

    Args:
        bus: The log's.
        timeout_s: How long it may not answer, in seconds.
        on_silent: Called when a silence begins and when it ends, with a sentence for the application's log.
        on_lost: Called with the reason at the end.
    """
    loop = asyncio.get_running_loop()
    silence = LogSilence(timeout_s, loop.time())
    reported: Silence | None = None

    async def request() -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await bus.last_seq()
        except TimeoutError:
            silence.failed(f"no answer within {timeout_s:g} s")
        except MafaldaError as error:
            silence.failed(str(error) or type(error).__name__)
        else:
            silence.answered(loop.time())

    async with open_tasks() as requests:
        while True:
            requests.spawn(request(), "dropin log check")
            await asyncio.sleep(CHECK_INTERVAL_S)
            found = silence.check(loop.time())
            if found is None:
                if reported is not None:
                    on_silent("the log answers again")
            elif found.is_too_long:
                on_lost(f"the fleet is out of reach for {found.silent_s:.0f} s: {found.cause}")
                return
            elif reported is None:
                left_s = timeout_s - found.silent_s
                on_silent(
                    f"the log has not answered for {found.silent_s:.0f} s ({found.cause}); ending in {left_s:.0f} s if "
                    f"that lasts (MAFALDA_FLEET_TIMEOUT_S={timeout_s:g})"
                )
            reported = found
