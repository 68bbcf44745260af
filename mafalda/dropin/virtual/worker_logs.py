"""Log lines of the real workers that have objects of the application: followed, and passed on to the library."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog

from mafalda.contract.messages.payload import Place
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.errors import MafaldaError

_log = structlog.get_logger("mafalda.dropin")


class WorkerLogRequests:
    """The log settings of one virtual worker, at each real worker.

    Args:
        settings: The level and tags that the library wants; it may change them.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._asked: set[Place] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, session: ObjectSession) -> None:
        """Ask for the log lines of the worker where a session is placed, unless that is done already."""
        if session.place is None or session.place in self._asked or self._settings.log_level == "none":
            return
        self._asked.add(session.place)
        task = asyncio.create_task(self._ask(session, session.place), name="dropin worker log")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def follow_again(self, sessions: Iterable[ObjectSession]) -> None:
        """Tell every worker the settings, which have changed; return when all have been told."""
        self._asked.clear()
        for session in sessions:
            if not session.is_lost and not session.is_ending:
                self.follow(session)
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _ask(self, session: ObjectSession, place: Place) -> None:
        body: dict[str, Any] = {"logLevel": self._settings.log_level, "logTags": list(self._settings.log_tags)}
        try:
            await session.query_now(make_call("WORKER_UPDATE_SETTINGS", "", body))
        except MafaldaError as error:
            self._asked.discard(place)
            _log.warning("a worker's log is not followed", action="worker_log_failed", reason=str(error))

    async def close(self) -> None:
        """Ask nothing more."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
