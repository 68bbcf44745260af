"""Settings of a producer or consumer that the application changes at any time, also while it is being opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from mafalda.aio.retry import retrying
from mafalda.errors import Broken, MafaldaError

_log = structlog.get_logger(__name__)

_UNKNOWN = object()


class ResourceSettings:
    """What the application set last, what the server has, and requests for what differs.

    A setting whose request failed is unknown: it is sent again, whatever its value is by then. One that was refused is
    not, until the application sets it again.

    Args:
        send: Requests one setting, by name and value.
        wanted: The settings at first.
    """

    def __init__(self, send: Callable[[str, Any], Awaitable[None]], **wanted: Any) -> None:
        self._send = send
        self._wanted: dict[str, Any] = wanted
        self._applied: dict[str, Any] = {}
        self._ordering = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What the application set last, by name."""
        return self._wanted

    def want(self, name: str, value: Any) -> None:
        """Change a setting; ``apply`` sends it."""
        self._wanted[name] = value

    def observed(self, name: str, value: Any) -> None:
        """The server has this value, as the log says; ``keep_applied`` sends what is wanted if that is another one."""
        self._applied[name] = value
        self._changed.set()

    def opened(self, applied: Mapping[str, Any]) -> None:
        """The server has a new object, which was opened with these settings; an older one's requests do not count."""
        self._applied = dict(applied)

    async def apply(self, *names: str) -> None:
        """Request what differs until it is equal. If that fails, or is cancelled, ``keep_applied`` goes on with it.

        Args:
            names: Of the settings that count; none: all.

        Raises:
            MafaldaError: A request failed.
        """
        async with self._ordering:
            while (name := self._first_difference(names or tuple(self._wanted))) is not None:
                applied, value = self._applied, self._wanted[name]
                applied.pop(name, None)
                try:
                    await self._send(name, value)
                except MafaldaError as error:
                    if not isinstance(error, Broken):
                        applied[name] = value
                    raise
                finally:
                    self._changed.set()
                applied[name] = value

    async def keep_applied(self) -> None:
        """Request what differs, now and whenever it differs again, as often as it takes. Runs until cancelled."""
        while True:
            self._changed.clear()
            try:
                async for attempt in retrying(Broken, action="client_settings", first_s=0.05, longest_s=1.0):
                    with attempt:
                        await self.apply()
            except MafaldaError as error:
                _log.warning("setting refused", action="client_settings", reason=str(error))
                continue
            await self._changed.wait()

    def _first_difference(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if self._applied.get(name, _UNKNOWN) != self._wanted[name]), None)
