"""Errors that are raised only where a bus or an embedded server is opened; all others are in ``mafalda.errors``."""

from __future__ import annotations

from mafalda.errors import Broken


class StreamMismatch(Broken):
    """A stream exists that is not as declared and cannot be changed so; ``details["fields"]`` names what differs."""

    code = "stream-mismatch"


class ServerFailed(Broken):
    """An embedded nats-server did not start or ended by itself; ``details`` has the end of its log."""

    code = "server-failed"
