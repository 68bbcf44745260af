"""Tells how loud the audio producers are that it observes.

What does not belong here: what both observers do (``rtp_observer``).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.objects.entity import JsonObject
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.observers.rtp_observer import RtpObserver


class Volume(NamedTuple):
    """How loud a producer was, on average, in dBvo (-127 to 0)."""

    producer: Producer
    volume: int


class AudioLevelObserver(RtpObserver):
    """Made by ``router.create_audio_level_observer``."""

    VOLUMES: ClassVar = Event[tuple[Volume, ...]]("volumes")
    SILENCE: ClassVar = Event[None]("silence")

    type = "audiolevel"

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "AUDIOLEVELOBSERVER_VOLUMES":
                found = [(self._router.get_producer(item["producerId"]), item["volume"]) for item in body["volumes"]]
                volumes = tuple(Volume(producer, volume) for producer, volume in found if producer is not None)
                if volumes:  # else they closed meanwhile
                    self._emit(self.VOLUMES, volumes)
            case "AUDIOLEVELOBSERVER_SILENCE":
                self._emit(self.SILENCE)
