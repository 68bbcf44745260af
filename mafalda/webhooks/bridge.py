"""Delivers room events to an endpoint: in order for each room, at least once, until they are taken or given up."""

from __future__ import annotations

import asyncio

import structlog
from opentelemetry import metrics

from mafalda.aio.retry import retrying
from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import background, open_tasks
from mafalda.bus.protocol import Bus
from mafalda.errors import BusUnavailable
from mafalda.feed.cursor import Cursor
from mafalda.feed.room_events import EventFollower, RoomEvent, Selection, follow_events
from mafalda.webhooks.config import WebhookConfig
from mafalda.webhooks.dead_letters import DeadLetter, DeadLetters
from mafalda.webhooks.endpoint import Endpoint
from mafalda.webhooks.errors import NotDelivered
from mafalda.webhooks.progress import Progress

log = structlog.get_logger("mafalda.webhooks")
_meter = metrics.get_meter("mafalda")
_finished = _meter.create_counter(
    "mafalda.webhook.events", unit="{event}", description="Events that were delivered, or became dead letters."
)


class Bridge:
    """One run of the bridge.

    Args:
        endpoint: Takes the events.
        cursor: From where on; moved as events are finished.
        dead_letters: Takes events that are given up.
        config: How patiently.
    """

    def __init__(self, endpoint: Endpoint, cursor: Cursor, dead_letters: DeadLetters, config: WebhookConfig) -> None:
        self._endpoint = endpoint
        self._cursor = cursor
        self._dead_letters = dead_letters
        self._config = config
        self._progress = Progress(cursor.seq)
        self._unfinished = asyncio.Semaphore(config.max_unfinished)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, bus: Bus, selection: Selection, *, ready: asyncio.Event) -> None:
        """Deliver for ever.

        Args:
            bus: Whose log is read.
            selection: Which events.
            ready: Set when the log is followed.

        Raises:
            LogTruncated: The log has discarded events that were not delivered yet.
            EndpointGone: The endpoint wants no events any more.
            CursorMoved: Another bridge uses the cursor.
        """
        async with follow_events(bus, selection, after_seq=self._cursor.seq) as follower:
            async with (
                background(self._deliver_all(follower), "webhook events") as reading,
                background(self._save_regularly(follower), "webhook cursor") as saving,
            ):
                ready.set()
                await asyncio.wait((reading, saving, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                await self._failed

    async def _deliver_all(self, follower: EventFollower) -> None:
        async with open_tasks() as tasks:
            rooms = SerialExecutor[str](tasks, "webhook events of", on_failure=self._fail)
            async for event in follower:
                self._progress.begin(event.seq)
                await self._unfinished.acquire()
                rooms.submit(event.room, lambda event=event: self._finish(event))  # type: ignore[misc]

    async def _finish(self, event: RoomEvent) -> None:
        if self._failed.done():
            return
        try:
            await self._deliver(event)
        except NotDelivered as error:
            fields = {"stream_seq": event.seq, "room_id": event.room, "reason": str(error)}
            log.error("webhook event given up", action="webhook_given_up", message_id=event.message.id, **fields)
            await self._keep(DeadLetter.of(event, str(error)))
            _finished.add(1, {"mafalda.outcome": "dead-letter"})
        else:
            _finished.add(1, {"mafalda.outcome": "delivered"})
        self._progress.finish(event.seq)
        self._unfinished.release()

    async def _deliver(self, event: RoomEvent) -> None:
        config = self._config
        async for attempt in retrying(
            NotDelivered,
            action="webhook_retried",
            first_s=config.first_retry_s,
            longest_s=config.longest_retry_s,
            give_up_after_s=config.give_up_after_s,
            message_id=event.message.id,
            room_id=event.room,
        ):
            with attempt:
                await self._endpoint.post(event)

    async def _keep(self, letter: DeadLetter) -> None:
        async for attempt in retrying(BusUnavailable, action="dead_letter_retried", longest_s=30):
            with attempt:
                await self._dead_letters.add(letter)

    async def _save_regularly(self, follower: EventFollower) -> None:
        while True:
            await asyncio.sleep(self._config.save_interval_s)
            self._progress.passed(follower.seq)
            await self._save()

    async def _save(self) -> None:
        if self._progress.seq != self._cursor.seq:
            async for attempt in retrying(BusUnavailable, action="webhook_cursor_retried", longest_s=30):
                with attempt:
                    await self._cursor.save(self._progress.seq)

    def _fail(self, name: str, error: Exception) -> None:
        """An event can neither be delivered nor kept: the bridge ends, and its next run begins with that event."""
        if not self._failed.done():
            self._failed.set_exception(error)
