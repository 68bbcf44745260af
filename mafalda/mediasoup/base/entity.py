"""Base class of every object inside a worker: id, life cycle, parent, requests and notifications.

An object closes in one of two directions (``docs/closures.md``). ``close()`` is called by the application and sends
the worker a request. ``end()`` is called when the worker has closed the object already, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mafalda.mediasoup.base.events import Emitter, Event
from mafalda.mediasoup.channel.channel import Channel, Undo
from mafalda.mediasoup.errors import Closed, NotFound, ObjectClosed, WorkerExited

AppData = dict[str, Any]
JsonObject = dict[str, Any]
CloseCause = Literal[
    "close", "workerclose", "routerclose", "transportclose", "listenserverclose", "producerclose", "dataproducerclose"
]


@dataclass(frozen=True, slots=True)
class EntityContext:
    """What every object needs to be created, whatever its class.

    Attributes:
        channel: Of its worker.
        parent_id: The worker's id of the object that it belongs to; empty for the worker itself.
        id: The worker's id of the object.
        on_end: Called with the object when it has closed, so that its parent removes it.
        app_data: The application's own.
        public_id: The id that applications see; ``None``: the same as ``id``.
    """

    channel: Channel
    parent_id: str
    id: str
    on_end: Callable[[Any], None]
    app_data: Mapping[str, Any] | None = None
    public_id: str | None = None


class Entity(Emitter):
    """An object inside the worker.

    Methods documented as "For the driver" are called by other objects of the driver. Applications need none of them.
    """

    # Emitted last, whoever closed the object; carries the cause.
    CLOSE: ClassVar = Event[CloseCause]("close")

    # The request to the parent that closes such an object, and the field of its body that holds the object's id.
    CLOSE_METHOD: ClassVar[str]
    ID_KEY: ClassVar[str]

    def __init__(self, context: EntityContext) -> None:
        super().__init__(context.channel.tasks)
        self._channel = context.channel
        self._parent_id = context.parent_id
        self._id = context.id
        self._public_id = context.id if context.public_id is None else context.public_id
        self._on_end = context.on_end
        self._closed = False
        self.app_data: AppData = dict(context.app_data or {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}{' closed' if self._closed else ''}>"

    @property
    def id(self) -> str:
        """The object's id; for producers of a router with a scope, without the scope."""
        return self._public_id

    @property
    def channel_id(self) -> str:
        """The worker's id of the object."""
        return self._id

    @property
    def closed(self) -> bool:
        """Whether the object was closed, by whichever side."""
        return self._closed

    async def close(self) -> None:
        """Close the object and everything that belongs to it. A second call does nothing.

        Raises:
            RequestTimeout: The worker did not confirm in time; the object is closed all the same.
        """
        if self._closed:
            return
        self.end("close")
        try:
            await self._channel.request(*self.close_request(self._parent_id, self._id))
        except (NotFound, Closed, WorkerExited):
            return  # the worker has no such object any more

    @classmethod
    def close_request(cls, parent_id: str, id: str) -> Undo:
        """For the driver: the request that closes an object of this class in the worker."""
        return Undo(cls.CLOSE_METHOD, parent_id, {cls.ID_KEY: id})

    def end(self, cause: CloseCause) -> None:
        """For the driver: close the object and everything below it without a request to the worker."""
        if self._closed:
            return
        self._closed = True
        self._channel.unsubscribe(self._id)
        self._before_end_events()
        for child, child_cause in tuple(self._children()):
            child.end(child_cause)
        self._on_end(self)
        if cause != "close":
            self._emit(cause)
        self._emit(self.CLOSE, cause)
        self._drop_listeners()

    def receive_notifications(self) -> None:
        """For the driver: from now on the worker's notifications arrive. The last step of creating an object."""
        self._channel.subscribe(self._id, self._on_notification)

    def intercept_notifications(self, listener: Callable[[str, JsonObject], None]) -> None:
        """Call ``listener`` with each notification, before the object itself handles it, for passthrough.

        None is missed if it is called before the first ``await`` after the object was created.
        """

        def deliver(event: str, body: JsonObject) -> None:
            listener(event, body)
            self._on_notification(event, body)

        self._channel.subscribe(self._id, deliver)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        """The objects that close together with this one, each with the cause that it emits."""
        return ()

    def _before_end_events(self) -> None:
        """Bring the state up to date before the events of the closing are emitted."""

    async def _request(self, method: str, body: Mapping[str, Any] | None = None) -> JsonObject:
        """Send a request for this object and wait for the answer's body.

        Raises:
            ObjectClosed: The object is closed.
            WorkerClosed: Its worker is closed.
            WorkerExited: Its worker died.
        """
        self._check_open()
        return await self._channel.request(method, self._id, body)

    async def _request_child(self, kind: type[Entity], method: str, id: str, body: JsonObject) -> JsonObject:
        """Send the request that creates a child of this object, and wait for the answer's body.

        Raises:
            ObjectClosed: This object closed meanwhile, and the child with it.
        """
        undo = kind.close_request(self._id, id)
        answer = await self._channel.request(method, self._id, body, creates=id, undo=undo)
        if self._closed:
            self._channel.unsubscribe(id)
            raise ObjectClosed("closed meanwhile", kind=type(self).__name__, object_id=self._id)
        return answer

    def _check_open(self) -> None:
        self._channel.check_open()
        if self._closed:
            raise ObjectClosed("already closed", kind=type(self).__name__, object_id=self._id)

    def _on_notification(self, event: str, body: JsonObject) -> None:
        """Handle a notification of the worker for this object."""
