"""Events of the driver's objects: a small typed observer.

An ``Event[T]`` is its name (a ``str``) that remembers the type of what it carries; each class lists its events as
class attributes, so ``on`` refuses a name that the class does not emit. A callback takes exactly one argument:
what the event carries, or None.

What does not belong here: who emits what (each object's file).
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
    """The name of an event; ``T`` is what its callbacks are given."""

    __slots__ = ()


class Spawner(Protocol):
    """Owner of the tasks that run coroutine callbacks."""

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> object: ...


class Emitter:
    """Something that emits the events listed as its class attributes."""

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
        """Call ``callback`` at each ``event``; returns how to stop that.

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
        """As ``on``, for the next ``event`` only."""

        def first(payload: Any) -> object:
            unsubscribe()
            return callback(payload)

        unsubscribe = self.on(event, first)
        return unsubscribe

    async def wait(self, event: str, *, timeout_s: float, predicate: Callable[[Any], bool] | None = None) -> Any:
        """Wait for the next ``event`` (for which ``predicate`` holds) and return what it carries.

        Raises:
            RequestTimeout: It did not come in time.
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
        """Nothing will be emitted any more: forget callbacks, fail who waits."""
        self._listeners.clear()
        for future in self._waiters:
            if not future.done():
                future.set_exception(ObjectClosed("closed while waiting for an event"))
