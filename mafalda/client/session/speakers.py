"""Who speaks in a room, as the fleet hears it on all its workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog

from mafalda.aio.events import wait_first
from mafalda.aio.tasks import TaskScope, cancel_and_wait
from mafalda.client.requests import PeerRequests
from mafalda.contract.messages.queries import QuerySpeakers, Speaker, Speakers
from mafalda.errors import MafaldaError, PermissionDenied

_log = structlog.get_logger(__name__)
#: An agent sends changes for a minute; it is asked again before that is over.
_RENEW_S, _RETRY_S = 25.0, 2.0


class SpeakerWatch:
    """Asks the peer's agent who speaks, while somebody wants to know.

    Args:
        requests: The peer's.
        inbox: Where changes are received.
        tasks: Owns the task that asks.
        over: Set when the membership ends.
    """

    def __init__(self, requests: PeerRequests, inbox: str, tasks: TaskScope, over: asyncio.Event) -> None:
        self._requests = requests
        self._inbox = inbox
        self._tasks = tasks
        self._over = over
        self._present: list[Speaker] = []
        self._changed = asyncio.Event()
        self._renew = asyncio.Event()
        self._watchers = 0
        self._asking: asyncio.Task[None] | None = None

    async def changes(self) -> AsyncGenerator[list[Speaker], None]:
        """Who speaks, loudest first: now, and at each change until the membership ends."""
        self._watchers += 1
        if self._asking is None:
            self._asking = self._tasks.spawn(self._keep_asking(), "speakers")
        told: list[Speaker] | None = None
        try:
            while not self._over.is_set():
                changed = self._changed
                if self._present != told:
                    told = self._present
                    yield told
                else:
                    await wait_first(changed, self._over)
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._asking is not None:
                asking, self._asking, self._present = self._asking, None, []
                await cancel_and_wait(asking)

    def take(self, speakers: Speakers) -> None:
        """The agent has told who speaks now."""
        if self._asking is not None:
            self._present = speakers.speakers
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def renew(self) -> None:
        """The peer has another place: its agent there does not know that somebody listens."""
        self._renew.set()

    async def _keep_asking(self) -> None:
        while True:
            self._renew.clear()
            wait_s = _RETRY_S
            try:
                self.take(await self._requests.query(QuerySpeakers(inbox=self._inbox), Speakers))
                wait_s = _RENEW_S
            except PermissionDenied as error:
                _log.warning("speakers are not known", action="client_speakers", reason=str(error))
                return
            except MafaldaError as error:
                _log.info("speakers not told", action="client_speakers", reason=str(error))
            try:
                async with self._requests.clock.timeout(wait_s):
                    await self._renew.wait()
            except TimeoutError:
                continue
