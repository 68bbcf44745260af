"""Settings of a producer or consumer that the application changes at any time, also while it is being opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_UNKNOWN = object()


class ResourceSettings:
    """What the application set last, what the server has, and requests for what differs.

    A setting whose request failed is unknown: it is sent again, whatever its value is by then.

    Args:
        send: Requests one setting, by name and value.
        wanted: The settings at first.
    """

    def __init__(self, send: Callable[[str, Any], Awaitable[None]], **wanted: Any) -> None:
        self._send = send
        self._wanted: dict[str, Any] = wanted
        self._applied: dict[str, Any] = {}
        self._ordering = asyncio.Lock()

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What the application set last, by name."""
        return self._wanted

    def want(self, name: str, value: Any) -> None:
        """Change a setting; ``apply`` sends it."""
        self._wanted[name] = value

    def opened(self, applied: Mapping[str, Any]) -> None:
        """The server has a new object, which was opened with these settings; an older one's requests do not count."""
        self._applied = dict(applied)

    async def apply(self, *names: str) -> None:
        """Request what differs until it is equal.

        Args:
            names: Of the settings that count; none: all.

        Raises:
            MafaldaError: A request failed.
        """
        async with self._ordering:
            while (name := self._first_difference(names or tuple(self._wanted))) is not None:
                applied, value = self._applied, self._wanted[name]
                applied.pop(name, None)
                await self._send(name, value)
                applied[name] = value

    def _first_difference(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if self._applied.get(name, _UNKNOWN) != self._wanted[name]), None)
