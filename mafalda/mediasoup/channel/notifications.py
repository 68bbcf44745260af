"""Delivery of a worker's notifications to the objects that they are for.

Notifications for an object that is being created are held until its handler is there: the worker may send them right
after its answer, before the code that waits for the answer runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from mafalda.mediasoup.channel.messages import Notification

Handler = Callable[[str, dict[str, Any]], None]
# Notifications held for an object that is being created; far more than a worker sends in that moment.
MAX_HELD = 1000


class NotificationHandlers:
    """The handlers of a worker's objects by id.

    Args:
        log: Where handlers that fail are logged.
    """

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[str, Handler] = {}
        self._held: dict[str, deque[Notification]] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._handlers or id in self._held

    def hold(self, id: str) -> None:
        """From now on hold the notifications for ``id``, until ``subscribe``."""
        self._held[id] = deque(maxlen=MAX_HELD)

    def drop_held(self, id: str) -> None:
        """The object was not created: drop what is held for it."""
        if id not in self._handlers:
            self._held.pop(id, None)

    def subscribe(self, id: str, handler: Handler) -> None:
        """Deliver the notifications for ``id`` to ``handler``, those that are held first."""
        self._handlers[id] = handler
        if id in self._held:
            self._loop.call_soon(self._deliver_held, id)

    def unsubscribe(self, id: str) -> None:
        """Drop the notifications for ``id`` from now on."""
        self._handlers.pop(id, None)
        self._held.pop(id, None)

    def clear(self) -> None:
        """Drop all notifications from now on."""
        self._handlers.clear()
        self._held.clear()

    def deliver(self, notification: Notification) -> None:
        """Call the handler.

        Without one the notification is dropped: the object closed after the worker had sent it, which is no event
        worth a log line.
        """
        held = self._held.get(notification.handler_id)
        if held is not None:
            held.append(notification)
            return
        handler = self._handlers.get(notification.handler_id)
        if handler is None:
            return
        try:
            handler(notification.event, notification.body)
        except Exception:
            self._log.exception("notification not understood", action="notification_failed", name=notification.event)

    def _deliver_held(self, id: str) -> None:
        for notification in self._held.pop(id, ()):
            self.deliver(notification)
