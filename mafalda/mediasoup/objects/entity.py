"""What every object of a worker has in common: an id, a life, a parent, notifications.

A close has two directions (``docs/closures.md``): ``close()`` is "I close it", which tells the worker; ``_end`` is
the cascade, which tells nobody because the worker knows already.

What does not belong here: what any particular object can do.
"""

from __future__ import annotations

import re
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.errors import (
    Closed,
    InvalidParameters,
    NotFound,
    ObjectClosed,
    WorkerDied,
)
from mafalda.mediasoup.objects.events import Emitter, Event

AppData = dict[str, Any]
JsonObject = dict[str, Any]
CloseCause = Literal[
    "close", "workerclose", "routerclose", "transportclose", "listenserverclose", "producerclose", "dataproducerclose"
]
T = TypeVar("T")
_ID = re.compile(r"[\x21-\x7e]{1,255}")


def new_id(given: str | None) -> str:
    """The caller's id, or a fresh UUID4.

    Raises:
        InvalidParameters: The id is not 1 to 255 printable ASCII characters without spaces.
    """
    return str(uuid.uuid4()) if given is None else check_id(given)


def check_id(given: str) -> str:
    """The id.

    Raises:
        InvalidParameters: It is not 1 to 255 printable ASCII characters without spaces.
    """
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise InvalidParameters("an id is 1 to 255 printable ASCII characters without spaces")
    return given


def check_list(given: Iterable[T], what: str) -> list[T]:
    """What was given, as a list.

    Raises:
        InvalidParameters: It is not a list, tuple or set.
    """
    if not isinstance(given, list | tuple | set | frozenset):
        raise InvalidParameters(f"{what} must be a list")
    return list(given)


class Entity(Emitter):
    """An object inside the worker that we have a handle of."""

    # Any closing, from whatever side; carries the cause. The last event of an object.
    CLOSE: ClassVar = Event[CloseCause]("close")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        public_id: str | None = None,
    ) -> None:
        super().__init__(channel.tasks)
        self._channel = channel
        self._id = id
        self._public_id = id if public_id is None else public_id
        self._closed = False
        self._forget = forget
        self.app_data: AppData = dict(app_data or {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}{' closed' if self._closed else ''}>"

    @property
    def id(self) -> str:
        """The id, in the worker and here; within a router that has a scope, without the scope."""
        return self._public_id

    @property
    def channel_id(self) -> str:
        """The id that the worker knows it by."""
        return self._id

    @property
    def closed(self) -> bool:
        """Whether it was closed, by whichever side."""
        return self._closed

    async def close(self) -> None:
        """Close it, and with it what belongs to it. A second call does nothing.

        Raises:
            RequestTimeout: The worker did not confirm in time; the handle is closed all the same.
        """
        if self._closed:
            return
        self._end("close")
        method, handler_id, body = self._close_request()
        try:
            await self._channel.request(method, handler_id, body)
        except (NotFound, Closed, WorkerDied):
            return  # it is gone already, which is what was wanted

    @abstractmethod
    def _close_request(self) -> tuple[str, str, JsonObject]:
        """Method, handler and body of the request that closes it in the worker."""

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        """What ends with it, and how that is called."""
        return ()

    def _ending(self) -> None:
        """Last changes of state before events tell of the end."""

    def _end(self, cause: CloseCause) -> None:
        """Close the handle and everything below it; the worker knows already, or is told by the caller."""
        if self._closed:
            return
        self._closed = True
        self._channel.unsubscribe(self._id)
        self._ending()
        for child, child_cause in tuple(self._children()):
            child._end(child_cause)
        self._forget(self)
        if cause != "close":
            self._emit(cause)
        self._emit(self.CLOSE, cause)
        self._drop_listeners()

    async def _request(self, method: str, body: Mapping[str, Any] | None = None) -> JsonObject:
        """A request to this object.

        Raises:
            ObjectClosed: It is closed.
            WorkerClosed: Its worker is closed.
            WorkerDied: Its worker died.
        """
        self._check_open()
        return await self._channel.request(method, self._id, body)

    def _check_open(self) -> None:
        self._channel.check_open()
        if self._closed:
            raise ObjectClosed("already closed", kind=type(self).__name__, object_id=self._id)

    def _subscribe(self) -> None:
        """From now on notifications arrive. The last line of the making of an object."""
        self._channel.subscribe(self._id, self._on_notification)

    def _on_notification(self, event: str, body: JsonObject) -> None:
        """A notification of the worker for this object."""


def check_trace_types(types: Iterable[str], known: frozenset[str]) -> list[str]:
    """The trace event types to switch on, without repetition.

    Raises:
        InvalidParameters: One is unknown.
    """
    given = check_list(types, "trace event types")
    unknown = [str(item) for item in given if not isinstance(item, str) or item not in known]
    if unknown:
        raise InvalidParameters("unknown trace event type", unknown=unknown, known=sorted(known))
    return list(dict.fromkeys(given))
