"""The RTP observer that emits which of its audio producers is the dominant speaker."""

from __future__ import annotations

from typing import ClassVar

from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.router.rtp_observer import RtpObserver


class ActiveSpeakerObserver(RtpObserver):
    """Created by ``router.create_active_speaker_observer``."""

    DOMINANT_SPEAKER: ClassVar = Event[Producer]("dominantspeaker")

    type = "activespeaker"

    def _on_notification(self, event: str, body: JsonObject) -> None:
        if event == "ACTIVESPEAKEROBSERVER_DOMINANT_SPEAKER":
            producer = self._router_context.producer_in_worker(body["producerId"])
            if producer is not None:  # None: it closed meanwhile
                self._emit(self.DOMINANT_SPEAKER, producer)
