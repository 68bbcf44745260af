"""Errors that only whoever opens a bus can meet; all others are the contract's."""

from __future__ import annotations

from mafalda.errors import Broken


class StreamMismatch(Broken):
    """A stream of ours exists, is not as declared, and cannot become so; ``details["fields"]`` names what differs."""

    code = "stream-mismatch"


class ServerFailed(Broken):
    """An embedded nats-server did not start or ended by itself; ``details`` holds what it said last."""

    code = "server-failed"
