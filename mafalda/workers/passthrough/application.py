"""Applications that speak the worker's channel: notices to their inboxes, and whether they still run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.errors import BusUnavailable, DeadlineExceeded, MafaldaError
from mafalda.mediasoup.codec.channel_json import to_json
from mafalda.workers.log.batcher import NoticeBatcher
from mafalda.workers.peers.session.session import PeerSession

#: Between two health checks of an application, in seconds.
CHECK_EVERY_S = 3.0
#: How long an application may take to answer a health check, in seconds.
ANSWER_WITHIN_S = 3.0
#: After so many health checks in a row without an answer, the application is gone.
FAILURES_UNTIL_GONE = 4
log = structlog.get_logger("mafalda.workers")


class ApplicationNotices:
    """Publishes notices to applications: in order for each inbox, in batches.

    Args:
        bus: Where they are published.
        tasks: Where batches are sent.
        server: This server's id.
    """

    def __init__(self, bus: Bus, tasks: TaskScope, server: str) -> None:
        self._bus = bus
        self._tasks = tasks
        self._source = f"/mafalda/agent/{server}"
        self._batchers: dict[str, NoticeBatcher] = {}

    def send(self, inbox: str, event: str, handler: str, body: Mapping[str, Any]) -> None:
        """Publish a notification of one object, after the notices to this inbox before it.

        Args:
            inbox: Of the application.
            event: The worker's name of the notification.
            handler: The object's id.
            body: In the shape of the driver's codec.
        """
        batcher = self._batchers.get(inbox)
        if batcher is None:
            self._batchers = {known: it for known, it in self._batchers.items() if not it.is_empty}
            batcher = self._batchers[inbox] = NoticeBatcher(
                self._tasks, inbox, lambda items: self._publish(inbox, items)
            )
        batcher.put(ChannelNotice(event=event, handler=handler, body=to_json(body) or None))

    def compose(self, inbox: str, items: list[ChannelNotice]) -> Message:
        """The message that carries notices to an inbox."""
        return compose(ChannelNotices(items=items), subject=inbox, source=self._source)

    async def _publish(self, inbox: str, items: list[ChannelNotice]) -> None:
        await self._bus.publish(inbox, self.compose(inbox, items))


class ApplicationHealth:
    """Checks whether applications still run. The peers of one that does not are timed out.

    Args:
        bus: Where applications are asked.
        notices: Composes the request: a message without notices.
    """

    def __init__(self, bus: Bus, notices: ApplicationNotices) -> None:
        self._bus = bus
        self._notices = notices
        self._failures: dict[str, int] = {}  # health checks in a row without an answer, by inbox

    async def run(self, sessions: Callable[[], Iterable[tuple[str, PeerSession]]]) -> None:
        """Check every application now and then, for ever.

        Args:
            sessions: The sessions that there are, each with its application's inbox.
        """
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            by_inbox: dict[str, list[PeerSession]] = {}
            for inbox, session in sessions():
                by_inbox.setdefault(inbox, []).append(session)
            self._failures = {inbox: self._failures.get(inbox, 0) for inbox in by_inbox}
            checks: list[Awaitable[None]] = [self._check(inbox, of) for inbox, of in by_inbox.items()]
            await asyncio.gather(*checks)

    async def _check(self, inbox: str, sessions: list[PeerSession]) -> None:
        try:
            await self._bus.request(inbox, self._notices.compose(inbox, []), timeout_s=ANSWER_WITHIN_S)
            self._failures[inbox] = 0
            return
        except DeadlineExceeded:
            pass
        except MafaldaError as error:  # an answer all the same, or the bus is gone
            log.debug("application answers with an error", action="health_check_odd", reason=str(error))
            return
        try:
            await self._bus.last_seq()
        except BusUnavailable:
            return  # the bus did not deliver the request
        self._failures[inbox] = self._failures.get(inbox, 0) + 1
        if self._failures[inbox] >= FAILURES_UNTIL_GONE:
            for session in sessions:
                session.time_out("the application is gone")
