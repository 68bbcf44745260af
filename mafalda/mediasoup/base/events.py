"""Events of the driver's objects: named, typed, with callbacks and waiting.

An ``Event[T]`` is its name (a ``str``) with the type of its payload; each class lists its events as class attributes,
so ``on`` refuses a name that the class does not emit. A callback takes exactly one argument: the payload, or None.

pyee, the usual library for this, has neither the payload's type nor the check of names, nor waiting that ends when the
emitter closes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

import structlog

from mafalda.mediasoup.errors import InvalidParameters, ObjectClosed, RequestTimeout

T = TypeVar("T")
Callback = Callable[[T], object]
Unsubscribe = Callable[[], None]
log = structlog.get_logger("mafalda.mediasoup")


class Event(str, Generic[T]):
    """The name of an event; ``T`` is the type of its payload."""

    __slots__ = ()


class Spawner(Protocol):
    """Owns the tasks that run coroutine callbacks."""

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> object: ...


class Emitter:
    """Base class of what emits the events that are its class attributes."""

    _events: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {value for value in vars(cls).values() if isinstance(value, Event)}
        cls._events = cls._events | frozenset(str(value) for value in own)

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._listeners: dict[str, list[Callback[Any]]] = {}
        self._waiters: set[asyncio.Future[Any]] = set()

    @overload
    def on(self, event: Event[T], callback: Callback[T]) -> Unsubscribe: ...
    @overload
    def on(self, event: str, callback: Callback[Any]) -> Unsubscribe: ...
    def on(self, event: str, callback: Callback[Any]) -> Unsubscribe:
        """Call ``callback`` with the payload of each ``event``; the returned function unsubscribes it.

        Raises:
            InvalidParameters: This object has no such event.
        """
        if event not in self._events:
            raise InvalidParameters("no such event", event=str(event), events=sorted(self._events))
        listeners = self._listeners.setdefault(str(event), [])
        listeners.append(callback)

        def unsubscribe() -> None:
            if callback in listeners:
                listeners.remove(callback)

        return unsubscribe

    @overload
    def once(self, event: Event[T], callback: Callback[T]) -> Unsubscribe: ...
    @overload
    def once(self, event: str, callback: Callback[Any]) -> Unsubscribe: ...
    def once(self, event: str, callback: Callback[Any]) -> Unsubscribe:
        """Call ``callback`` with the payload of the next ``event`` only; the returned function unsubscribes it."""

        def first(payload: Any) -> object:
            unsubscribe()
            return callback(payload)

        unsubscribe = self.on(event, first)
        return unsubscribe

    async def wait(self, event: str, *, timeout_s: float, predicate: Callable[[Any], bool] | None = None) -> Any:
        """Wait for the next ``event`` (for which ``predicate`` holds) and return its payload.

        Raises:
            RequestTimeout: It was not emitted within ``timeout_s`` seconds.
            ObjectClosed: The object closed meanwhile (and the event was not its closing).
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def arrived(payload: Any) -> None:
            if not future.done() and (predicate is None or predicate(payload)):
                future.set_result(payload)

        unsubscribe = self.on(event, arrived)
        self._waiters.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise RequestTimeout("no such event in time", event=event, timeout_s=timeout_s) from None
        finally:
            self._waiters.discard(future)
            unsubscribe()

    def _emit(self, event: str, payload: Any = None) -> None:
        for callback in tuple(self._listeners.get(event, ())):
            try:
                result = callback(payload)
                if inspect.iscoroutine(result):
                    self._spawner.spawn(result, f"mediasoup event {event}")
            except Exception:
                log.exception("listener failed", action="listener_failed", event_name=event)

    def _drop_listeners(self) -> None:
        """Unsubscribe all callbacks and fail every ``wait``. Called after the last event."""
        self._listeners.clear()
        for future in self._waiters:
            if not future.done():
                future.set_exception(ObjectClosed("closed while waiting for an event"))
