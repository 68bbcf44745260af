"""Requests whose handling waits for something: each runs in a task of its own, and its errors become its response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mafalda.aio.tasks import TaskScope
from mafalda.dropin.fleet.answers import Refusal, refusal_of
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.errors import MafaldaError


class WaitingRequests:
    """Runs the handling of requests beside each other."""

    def __init__(self) -> None:
        self._tasks = TaskScope()

    def run(self, request: LibraryRequest, handle: Callable[[LibraryRequest], Awaitable[None]]) -> asyncio.Task[None]:
        """Handle a request in a task."""
        return self._tasks.spawn(_handle(request, handle), f"dropin {request.method}")

    async def close(self) -> None:
        """Cancel what still runs."""
        await self._tasks.close()


async def _handle(request: LibraryRequest, handle: Callable[[LibraryRequest], Awaitable[None]]) -> None:
    try:
        await handle(request)
    except Refusal as refusal:
        request.refuse(refusal)
    except MafaldaError as error:
        request.refuse(refusal_of(error))
