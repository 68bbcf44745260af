"""Whether anything listens where NATS should be, asked before the rest is loaded.

Only the standard library is imported here. What does not belong here: connecting (``mafalda.bus``).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

DEFAULT_URL = "nats://127.0.0.1:4222"
#: How long NATS is looked for at the start, in seconds; then the process ends as a worker that failed does.
REACH_TIMEOUT_S = 8.0
_RETRY_INTERVAL_S = 0.2


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
