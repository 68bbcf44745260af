"""Warnings about messages of a server's other incarnation: whose they claim to be, and how many there were."""

from __future__ import annotations

from collections import Counter

import structlog

from mafalda.contract.messages.envelope import Message

_log = structlog.get_logger(__name__)

#: Seconds between two warnings about one server.
INTERVAL_S = 60.0
#: Servers that are remembered; whoever invents more of them gets no more warnings than this in ``INTERVAL_S``.
MAX_SERVERS = 256


class IncarnationWarnings:
    """Warns at most once in ``INTERVAL_S`` for each server.

    A first load report is passed over: that of an agent which starts again may come before its ``ServerStarted``.
    """

    def __init__(self) -> None:
        self._warned_at: dict[str, float] = {}
        self._unreported: Counter[str] = Counter()
        self._loads: dict[str, str] = {}  # the last foreign incarnation of each server that reported its load

    def load(self, message: Message, server: str, incarnation: str, now: float) -> None:
        """Note a load report of a foreign incarnation."""
        if self._loads.get(server) == incarnation:
            self.note(message, server, incarnation, now)
        elif server in self._loads or len(self._loads) < MAX_SERVERS:
            self._loads[server] = incarnation

    def note(self, message: Message, server: str, incarnation: str, now: float) -> None:
        """Warn about a message, unless there was a warning about its server a short while ago.

        Args:
            message: What has no effect.
            server: Of which server it is.
            incarnation: Of which incarnation of it.
            now: Seconds, monotonic.
        """
        if now - self._warned_at.get(server, -INTERVAL_S) < INTERVAL_S or not self._remember(server, now):
            self._unreported[server if server in self._warned_at else ""] += 1
            return
        _log.warning(
            "a message of another incarnation has no effect",
            action="foreign_incarnation",
            message_type=message.type,
            message_id=message.id,
            source=message.source,
            server_id=server,
            incarnation=incarnation,
            unreported=self._unreported.pop(server, 0),
        )

    def _remember(self, server: str, now: float) -> bool:
        if server not in self._warned_at and len(self._warned_at) >= MAX_SERVERS:
            self._warned_at = {it: at for it, at in self._warned_at.items() if now - at < INTERVAL_S}
            if len(self._warned_at) >= MAX_SERVERS:
                return False
        self._warned_at[server] = now
        return True
