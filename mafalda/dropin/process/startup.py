"""What the library gets before the rest is loaded, because applications wait for their workers to start.

Only the standard library is imported here.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

READ_FD, WRITE_FD = 3, 4
DEFAULT_URL = "nats://127.0.0.1:4222"
#: How long NATS is looked for at the start, in seconds; then the process ends as a worker that failed does.
REACH_TIMEOUT_S = 8.0
_RETRY_INTERVAL_S = 0.2
_PREFIX = struct.Struct("<I")
# As ``worker_side`` encodes them: everything up to the length of the text. A test compares.
_RUNNING = bytes.fromhex("0c000000080009000800040008000000100000000300000008000900040008000800000008000000")
_LOG = bytes.fromhex("0c0000000800090008000400080000000c00000004000600080004000600000004000000")


def running_frame(pid: int, event: int) -> bytes:
    """The notification WORKER_RUNNING, as a frame.

    Args:
        pid: Of the process that the library spawned.
        event: The number of the event in the schema of the library's version.
    """
    return _frame(_RUNNING + bytes((event, 0, 0, 0)), str(pid))


def log_frame(line: str) -> bytes:
    """A log line, as a frame; the line's first character is the level."""
    return _frame(_LOG, line)


def _frame(head: bytes, text: str) -> bytes:
    raw = text.encode()
    payload = head + _PREFIX.pack(len(raw)) + raw + b"\0"
    return _PREFIX.pack(len(payload)) + payload


def write_frame(frame: bytes) -> None:
    """Write a whole frame to the library."""
    while frame:
        frame = frame[os.write(WRITE_FD, frame) :]


def fleet_urls(environment: Mapping[str, str]) -> list[str]:
    """The addresses of NATS in an environment, as ``mafalda.bus.config.server_urls`` finds them. A test compares."""
    urls = [url.strip() for url in environment.get("MAFALDA_NATS_URL", "").split(",") if url.strip()]
    return urls or [DEFAULT_URL]


def is_reachable(urls: list[str], within_s: float = REACH_TIMEOUT_S) -> bool:
    """Whether something listens at one of these addresses, tried for at most ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        for url in urls:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            port = parts.port or {"ws": 80, "wss": 443}.get(parts.scheme, 4222)
            try:
                left_s = max(deadline - time.monotonic(), 0.05)
                with socket.create_connection((parts.hostname or "127.0.0.1", port), timeout=min(left_s, 2.0)):
                    return True
            except OSError:
                pass
        if time.monotonic() + _RETRY_INTERVAL_S >= deadline:
            return False
        time.sleep(_RETRY_INTERVAL_S)  # before any event loop; nothing tells when a server begins to listen
