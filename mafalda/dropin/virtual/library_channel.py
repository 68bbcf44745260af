"""The channel to the library: the one place where its bytes are decoded, and where what it gets is encoded.

The handlers above it work with decoded requests and notifications; ``mafalda.dropin.process.pipes`` below it moves
payloads without looking into them. Both see messages of our own schema only: those of a library of another version are
translated in between (``mafalda.dropin.translation``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from mafalda.dropin.fleet.answers import Refusal, failed
from mafalda.dropin.process.settings import LOG_LEVELS, WorkerSettings
from mafalda.mediasoup.channel import worker_side
from mafalda.mediasoup.errors import InvalidParameters

_LEVELS = {"D": 3, "X": 3, "W": 2, "E": 1}
_log = structlog.get_logger("mafalda.dropin")


class LibraryChannel:
    """Decodes payloads from the library and encodes payloads to it.

    Args:
        settings: Decide which log lines the library gets; the library may change them.
        send: Writes one payload to the library.
    """

    def __init__(self, settings: WorkerSettings, send: Callable[[bytes], None]) -> None:
        self._settings = settings
        self._send = send

    # --- from the library -----------------------------------------------------------------------------

    def decode(self, payload: bytes) -> worker_side.Request | worker_side.Notification:
        """The request or notification in a payload.

        Raises:
            FramingError: It is none; a worker could not go on after it.
        """
        return worker_side.decode(payload)

    def has_its_body(self, request: worker_side.Request) -> bool:
        """Whether the body is there that the method needs."""
        return worker_side.has_its_body(request)

    # --- to the library -------------------------------------------------------------------------------

    def send_accepted(self, request: worker_side.Request, body: dict[str, Any] | None, kind: str) -> None:
        """Send the response to a granted request.

        Args:
            request: As it was decoded.
            body: Of the response, in the codec's shape.
            kind: Of the transport that it is about, as the schema calls it; else empty.
        """
        try:
            payload = worker_side.encode_accepted(request.id, request.method, body, kind)
        except InvalidParameters as error:
            self.send_refused(request, failed(f"an answer that does not fit the schema: {error}"))
            return
        self._send(payload)

    def send_refused(self, request: worker_side.Request, refusal: Refusal) -> None:
        """Send the response to a refused request; its reason names the method, as a worker's does."""
        method = request.method
        reason = refusal.reason if "[method:" in refusal.reason else f"{refusal.reason} [method:{method}]"
        self._send(worker_side.encode_refused(request.id, refusal.error, reason))

    def send_notification(self, handler: str, event: str, body: dict[str, Any] | None = None) -> None:
        """Send a notification about an object; one that does not fit the schema is logged instead."""
        try:
            payload = worker_side.encode_notification(event, handler, body)
        except InvalidParameters as error:
            _log.warning("notification does not fit the schema", action="notice_odd", name=event, reason=str(error))
            return
        self._send(payload)

    def send_worker_log(self, line: str) -> None:
        """Send a log line of a real worker, if the library wants lines of its level, which is its first character."""
        if 0 < _LEVELS.get(line[:1], 0) <= LOG_LEVELS[self._settings.log_level]:
            self._send(worker_side.encode_log(line))

    def send_log(self, level: str, line: str) -> None:
        """Send a log line, if the library wants lines of this level: D, W or E."""
        if _LEVELS[level] <= LOG_LEVELS[self._settings.log_level]:
            self._send(worker_side.encode_log(f"{level}mafalda-worker: {line}"))
