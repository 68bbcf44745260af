"""Tells who speaks, of the audio producers that it observes.

What does not belong here: what both observers do (``rtp_observer``).
"""

from __future__ import annotations

from typing import ClassVar

from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.objects.entity import JsonObject
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.observers.rtp_observer import RtpObserver


class ActiveSpeakerObserver(RtpObserver):
    """Made by ``router.create_active_speaker_observer``."""

    DOMINANT_SPEAKER: ClassVar = Event[Producer]("dominantspeaker")

    type = "activespeaker"

    def _on_notification(self, event: str, body: JsonObject) -> None:
        if event == "ACTIVESPEAKEROBSERVER_DOMINANT_SPEAKER":
            producer = self._router.get_producer(body["producerId"])
            if producer is not None:  # else it closed meanwhile
                self._emit(self.DOMINANT_SPEAKER, producer)
