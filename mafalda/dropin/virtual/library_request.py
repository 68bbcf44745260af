"""One request of the library, from its arrival to its one response, which comes in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mafalda.dropin.fleet.answers import LibraryAnswer, Refusal, failed
from mafalda.dropin.virtual.library_channel import LibraryChannel
from mafalda.mediasoup.channel import worker_side

#: Longer than anything that it may wait for: a relay may take ten seconds.
ANSWER_TIMEOUT_S = 14.0


class LibraryRequest:
    """A request without a response.

    Args:
        request: As it was decoded.
        channel: Sends the response.
    """

    def __init__(self, request: worker_side.Request, channel: LibraryChannel) -> None:
        self._request = request
        self._channel = channel
        self._is_answered = False
        #: Undoes what is granted after the response was sent.
        self.undo: Callable[[], object] | None = None
        self._timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._expire)

    @property
    def method(self) -> str:
        """The channel's method."""
        return self._request.method

    @property
    def handler(self) -> str:
        """The id of the object that it is for; empty for the worker itself."""
        return self._request.handler

    @property
    def body(self) -> dict[str, Any]:
        """Its body; empty if it has none."""
        return self._request.body or {}

    def accept(self, body: dict[str, Any] | None = None, kind: str = "") -> None:
        """Respond that it is granted; if it was refused for its time already, undo it."""
        if not self._is_answered:
            self._end()
            self._channel.send_accepted(self._request, body, kind)
        elif self.undo is not None:
            self.undo()

    def refuse(self, refusal: Refusal) -> None:
        """Respond that it is refused, if there was no response yet."""
        if not self._is_answered:
            self._end()
            self._channel.send_refused(self._request, refusal)

    def answer(self, answer: LibraryAnswer, kind: str = "") -> None:
        """Respond with the fleet's answer."""
        if answer.refusal is not None:
            self.refuse(answer.refusal)
        else:
            self.accept(answer.body, kind)

    def _expire(self) -> None:
        self.refuse(failed(f"no answer of the fleet within {ANSWER_TIMEOUT_S:g} s"))

    def _end(self) -> None:
        self._is_answered = True
        self._timer.cancel()
