"""The events that an application gets from a room: the contract's room events and three of the SDK's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.contract.messages.events import Event
from mafalda.errors import Closed, MafaldaError


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The peer's place or its transports are gone; the SDK reconnects. ``generation`` is that of the lost place."""

    generation: int
    cause: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The peer's producers are open again under their ids, and media comes in of what it consumes.

    ``duration_s`` is the time since ``Reconnecting`` in which the bus worked.
    """

    generation: int
    server: str
    worker: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A producer or consumer of the peer could not be opened again; it is closed."""

    id: str
    error: MafaldaError


RoomEvent = Event | Reconnecting | Reconnected | GaveUp


class EventStream(AsyncIterator[RoomEvent]):
    """Room events in log order, none missed since ``room.events()`` was called.

    Ends when the room is left; raises if the room ended by an error, or if it was read too slowly.
    """

    def __init__(self, max_queued: int) -> None:
        self.queue: BoundedQueue[RoomEvent] = BoundedQueue(max_queued, overflow="fail")

    async def __anext__(self) -> RoomEvent:
        try:
            return await self.queue.take()
        except Closed:
            raise StopAsyncIteration from None


class Fanout:
    """Gives each event to every stream that is open."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._streams: list[EventStream] = []
        self._over = False
        self._error: MafaldaError | None = None

    def stream(self) -> EventStream:
        """A new stream, from now on."""
        made = EventStream(self._max_queued)
        self._streams.append(made)
        if self._over:
            made.queue.end(self._error)
        return made

    def emit(self, event: RoomEvent) -> None:
        """Give an event to every stream; those that have ended are forgotten."""
        self._streams = [stream for stream in self._streams if not stream.queue.over]
        for stream in self._streams:
            stream.queue.put(event)

    def end(self, error: MafaldaError | None) -> None:
        """No more events: streams end, by ``error`` if there is one."""
        self._over, self._error = True, error
        for stream in self._streams:
            stream.queue.end(error)
        self._streams.clear()
