"""A producer: media that a transport receives into the router."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from mafalda.media.rtp import MediaKind, ProducerScore, ProducerType, RtpMapping, RtpParameters
from mafalda.mediasoup.base.checks import check_trace_types
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.pausable import Pausable
from mafalda.mediasoup.codec import shapes

TRACE_TYPES = frozenset({"keyframe", "fir", "nack", "pli", "rtp", "sr"})


class Producer(Pausable):
    """Created by ``transport.produce``."""

    SCORE: ClassVar = Event[tuple[ProducerScore, ...]]("score")
    VIDEO_ORIENTATION_CHANGE: ClassVar = Event[JsonObject]("videoorientationchange")
    TRACE: ClassVar = Event[JsonObject]("trace")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    CLOSE_METHOD = "TRANSPORT_CLOSE_PRODUCER"
    ID_KEY = "producerId"
    PAUSE_METHOD = "PRODUCER_PAUSE"
    RESUME_METHOD = "PRODUCER_RESUME"

    def __init__(
        self,
        context: EntityContext,
        *,
        kind: MediaKind,
        type: ProducerType,
        rtp_parameters: RtpParameters,
        consumable_rtp_parameters: RtpParameters,
        paused: bool,
        given_mapping: RtpMapping | None,
    ) -> None:
        super().__init__(context, paused=paused)
        self.kind: MediaKind = kind
        self.type: ProducerType = type
        self.rtp_parameters = rtp_parameters
        # What consumers are negotiated from: the router's payload types and the mapped SSRCs.
        self.consumable_rtp_parameters = consumable_rtp_parameters
        # The mapping, if the caller gave it; None: it was computed from the router's capabilities.
        self.given_mapping = given_mapping
        self._score: tuple[ProducerScore, ...] = ()

    @property
    def score(self) -> tuple[ProducerScore, ...]:
        """The last score of each of its streams, from 0 to 10."""
        return self._score

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return shapes.producer_dump(await self._request("PRODUCER_DUMP"))

    async def get_stats(self) -> list[JsonObject]:
        """Statistics of each of its streams (``inbound-rtp``)."""
        return shapes.stream_stats(await self._request("PRODUCER_GET_STATS"))

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; without types, never."""
        await self._request("PRODUCER_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    def send(self, rtp_packet: bytes) -> None:
        """Send an RTP packet; for producers of a direct transport.

        Raises:
            InvalidParameters: It is not bytes.
        """
        self._check_open()
        self._channel.notify("PRODUCER_SEND", self._id, {"data": rtp_packet})

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "PRODUCER_SCORE":
                self._score = tuple(ProducerScore.model_validate(_score(item)) for item in body["scores"])
                self._emit(self.SCORE, self._score)
            case "PRODUCER_VIDEO_ORIENTATION_CHANGE":
                self._emit(self.VIDEO_ORIENTATION_CHANGE, body)
            case "PRODUCER_TRACE":
                self._emit(self.TRACE, shapes.trace(body))


def _score(score: JsonObject) -> JsonObject:
    return {key: value for key, value in score.items() if key != "rid" or value}
