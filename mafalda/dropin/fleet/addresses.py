"""Which listen addresses of an application are those of its own host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class HostAddresses:
    """The host's addresses, read at first use: most applications listen on loopback or on every address."""

    def __init__(self) -> None:
        self._known: frozenset[str] | None = None

    def among(self, infos: Iterable[Mapping[str, Any]]) -> list[str]:
        """Those addresses of listen infos that another server has to replace by its own."""
        named = {ip for info in infos if isinstance(ip := info.get("ip"), str)} - {"127.0.0.1", "0.0.0.0", "::", "::1"}
        if not named:
            return []
        if self._known is None:
            import psutil

            self._known = frozenset(it.address for found in psutil.net_if_addrs().values() for it in found)
        return sorted(named & self._known)
