"""Which listen addresses of an application are its own host's. What does not belong here: the servers' (agents)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class HostAddresses:
    """Asked for at first use: most applications listen on loopback or on everything."""

    def __init__(self) -> None:
        self._known: frozenset[str] | None = None

    def among(self, infos: Iterable[Mapping[str, Any]]) -> list[str]:
        """Those addresses of listen infos that another server has to replace by its own."""
        asked = {ip for info in infos if isinstance(ip := info.get("ip"), str)} - {"127.0.0.1", "0.0.0.0", "::", "::1"}
        if not asked:
            return []
        if self._known is None:
            import psutil

            self._known = frozenset(it.address for found in psutil.net_if_addrs().values() for it in found)
        return sorted(asked & self._known)
