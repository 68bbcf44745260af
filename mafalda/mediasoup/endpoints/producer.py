"""A producer: media that comes into the router.

What does not belong here: how it is made (``transport``, ``ortc``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from mafalda.media.rtp import MediaKind, ProducerScore, ProducerType, RtpMapping, RtpParameters
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.objects.entity import Entity, JsonObject, check_trace_types
from mafalda.mediasoup.objects.events import Event

TRACE_TYPES = frozenset({"keyframe", "fir", "nack", "pli", "rtp", "sr"})


class Producer(Entity):
    """Made by ``transport.produce``."""

    SCORE: ClassVar = Event[tuple[ProducerScore, ...]]("score")
    VIDEO_ORIENTATION_CHANGE: ClassVar = Event[JsonObject]("videoorientationchange")
    TRACE: ClassVar = Event[JsonObject]("trace")
    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        *,
        transport_id: str,
        kind: MediaKind,
        type: ProducerType,
        rtp_parameters: RtpParameters,
        consumable_rtp_parameters: RtpParameters,
        paused: bool,
        given_mapping: RtpMapping | None = None,
        public_id: str | None = None,
    ) -> None:
        super().__init__(channel, id, app_data, forget, public_id)
        self._transport_id = transport_id
        self.kind: MediaKind = kind
        self.type: ProducerType = type
        self.rtp_parameters = rtp_parameters
        # What consumers are negotiated from: the router's payload types and the mapped SSRCs.
        self.consumable_rtp_parameters = consumable_rtp_parameters
        # Where somebody else made the mapping, who counts on its SSRCs; None: we did.
        self.given_mapping = given_mapping
        self._paused = paused
        self._score: tuple[ProducerScore, ...] = ()

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

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

    async def pause(self) -> None:
        """Stop forwarding it to its consumers."""
        await self._request("PRODUCER_PAUSE")
        was_paused, self._paused = self._paused, True
        if not was_paused:
            self._emit(self.PAUSE)

    async def resume(self) -> None:
        """Forward it again."""
        await self._request("PRODUCER_RESUME")
        was_paused, self._paused = self._paused, False
        if was_paused:
            self._emit(self.RESUME)

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; none switches it off."""
        await self._request("PRODUCER_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    def send(self, rtp_packet: bytes) -> None:
        """Send an RTP packet, for producers of a direct transport.

        Raises:
            InvalidParameters: It is not bytes.
        """
        self._check_open()
        self._channel.notify("PRODUCER_SEND", self._id, {"data": rtp_packet})

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "TRANSPORT_CLOSE_PRODUCER", self._transport_id, {"producerId": self._id}

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
