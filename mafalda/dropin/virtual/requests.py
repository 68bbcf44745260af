"""One request of the library, from its arrival to its one answer, which comes in bounded time.

What does not belong here: what it asks (``virtual_worker``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mafalda.dropin.fleet.fleet import Answer
from mafalda.dropin.virtual.errors import Refusal, failed
from mafalda.mediasoup.channel import worker_side
from mafalda.mediasoup.errors import InvalidParameters

#: Longer than anything that it may wait for: a relay may take ten seconds.
ANSWER_WITHIN_S = 14.0
Send = Callable[[bytes], None]


class Open:
    """An unanswered request.

    Args:
        request: As it came.
        send: Writes the answer.
    """

    def __init__(self, request: worker_side.Request, send: Send) -> None:
        self.request = request
        self._send = send
        self.is_answered = False
        self.late: Callable[[], None] | None = None  # undoes what was granted too late
        self._timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._expire)

    @property
    def body(self) -> dict[str, Any]:
        """Its body; empty if it has none."""
        return self.request.body or {}

    def accept(self, body: dict[str, Any] | None = None, kind: str = "") -> None:
        """Say yes."""
        if self.is_answered:
            if self.late is not None:
                self.late()
            return
        try:
            payload = worker_side.encode_accepted(self.request.id, self.request.method, body, kind)
        except InvalidParameters as error:
            self.refuse(failed(f"an answer that cannot be said: {error}"))
            return
        self._done(payload)

    def refuse(self, refusal: Refusal) -> None:
        """Say no."""
        if not self.is_answered:
            method = self.request.method
            reason = refusal.reason if "[method:" in refusal.reason else f"{refusal.reason} [method:{method}]"
            self._done(worker_side.encode_refused(self.request.id, refusal.error, reason))

    def take(self, answer: Answer, kind: str = "") -> None:
        """Say what the fleet says."""
        if answer.refusal is not None:
            self.refuse(answer.refusal)
        else:
            self.accept(answer.body, kind)

    def _expire(self) -> None:
        self.refuse(failed(f"no answer of the fleet within {ANSWER_WITHIN_S:g} s"))

    def _done(self, payload: bytes) -> None:
        self.is_answered = True
        self._timer.cancel()
        self._send(payload)
