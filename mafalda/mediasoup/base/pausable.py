"""Pausing and resuming, which producers, consumers and RTP observers have in common."""

from __future__ import annotations

from typing import ClassVar

from mafalda.mediasoup.base.entity import Entity, EntityContext
from mafalda.mediasoup.base.events import Event


class Pausable(Entity):
    """An object that can be paused by the application."""

    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")

    PAUSE_METHOD: ClassVar[str]
    RESUME_METHOD: ClassVar[str]

    def __init__(self, context: EntityContext, *, paused: bool) -> None:
        super().__init__(context)
        self._paused = paused

    @property
    def paused(self) -> bool:
        """Whether the application paused it."""
        return self._paused

    async def pause(self) -> None:
        """Stop forwarding (an RTP observer: stop observing)."""
        await self._request(self.PAUSE_METHOD)
        self._set_paused(True)

    async def resume(self) -> None:
        """Forward (an RTP observer: observe) again."""
        await self._request(self.RESUME_METHOD)
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        changed, self._paused = self._paused != paused, paused
        if changed:
            self._emit(self.PAUSE if paused else self.RESUME)


class PausableWithSource(Pausable):
    """A pausable object that stands still while its source is paused too: a consumer of its producer.

    ``pause`` and ``resume`` are emitted when it begins and ends to stand still: when one of both is paused or resumed
    while the other is not paused.
    """

    def __init__(self, context: EntityContext, *, paused: bool, source_paused: bool) -> None:
        super().__init__(context, paused=paused)
        self._source_paused = source_paused

    def _set_paused(self, paused: bool) -> None:
        changed, self._paused = self._paused != paused, paused
        if changed and not self._source_paused:
            self._emit(self.PAUSE if paused else self.RESUME)

    def _set_source_paused(self, paused: bool, event: Event[None]) -> None:
        """The source was paused or resumed; ``event`` is emitted first if that changes something."""
        if self._source_paused == paused:
            return
        self._source_paused = paused
        self._emit(event)
        if not self._paused:
            self._emit(self.PAUSE if paused else self.RESUME)
