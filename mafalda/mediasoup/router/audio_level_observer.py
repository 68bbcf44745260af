"""The RTP observer that emits how loud its audio producers are."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.router.rtp_observer import RtpObserver


class Volume(NamedTuple):
    """How loud a producer was, on average, in dBvo (-127 to 0)."""

    producer: Producer
    volume: int


class AudioLevelObserver(RtpObserver):
    """Created by ``router.create_audio_level_observer``."""

    VOLUMES: ClassVar = Event[tuple[Volume, ...]]("volumes")
    SILENCE: ClassVar = Event[None]("silence")

    type = "audiolevel"

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "AUDIOLEVELOBSERVER_VOLUMES":
                producer_of = self._router_context.producer_in_worker
                found = [(producer_of(item["producerId"]), item["volume"]) for item in body["volumes"]]
                volumes = tuple(Volume(producer, volume) for producer, volume in found if producer is not None)
                if volumes:  # empty: they closed meanwhile
                    self._emit(self.VOLUMES, volumes)
            case "AUDIOLEVELOBSERVER_SILENCE":
                self._emit(self.SILENCE)
