"""A consumer: media of a producer on its way to one endpoint.

What does not belong here: how it is made (``transport``, ``pipe_transport``, ``ortc``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from mafalda.media.rtp import ConsumerLayers, ConsumerScore, ConsumerType, MediaKind, RtpParameters
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.objects.entity import Entity, JsonObject, check_trace_types
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.ortc import parse

TRACE_TYPES = frozenset({"keyframe", "fir", "nack", "pli", "rtp"})


class Consumer(Entity):
    """Made by ``transport.consume``."""

    SCORE: ClassVar = Event[ConsumerScore]("score")
    LAYERS_CHANGE: ClassVar = Event[ConsumerLayers | None]("layerschange")
    TRACE: ClassVar = Event[JsonObject]("trace")
    RTP: ClassVar = Event[bytes]("rtp")
    # Pause and resume tell of the sum of both sides; the next two of the producer's alone.
    PAUSE: ClassVar = Event[None]("pause")
    RESUME: ClassVar = Event[None]("resume")
    PRODUCER_PAUSE: ClassVar = Event[None]("producerpause")
    PRODUCER_RESUME: ClassVar = Event[None]("producerresume")
    PRODUCER_CLOSE: ClassVar = Event[None]("producerclose")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        *,
        transport_id: str,
        producer_id: str,
        kind: MediaKind,
        type: ConsumerType,
        rtp_parameters: RtpParameters,
        mapped_ssrcs: tuple[int, ...],
        paused: bool,
        producer_paused: bool,
        score: ConsumerScore,
        preferred_layers: ConsumerLayers | None,
    ) -> None:
        super().__init__(channel, id, app_data, forget)
        self._transport_id = transport_id
        self.producer_id = producer_id
        self.kind: MediaKind = kind
        self.type: ConsumerType = type
        self.rtp_parameters = rtp_parameters
        # The router's SSRCs of the producer's encodings; a relay produces with the same at the far end.
        self.mapped_ssrcs = mapped_ssrcs
        self._paused = paused
        self._producer_paused = producer_paused
        self._priority = 1
        self._score = score
        self._preferred_layers = preferred_layers
        self._current_layers: ConsumerLayers | None = None

    @property
    def paused(self) -> bool:
        """Whether it is paused itself, whatever its producer is."""
        return self._paused

    @property
    def producer_paused(self) -> bool:
        """Whether its producer is paused."""
        return self._producer_paused

    @property
    def priority(self) -> int:
        """1 (least) to 255."""
        return self._priority

    @property
    def score(self) -> ConsumerScore:
        """The last score of its stream and of its producer's."""
        return self._score

    @property
    def preferred_layers(self) -> ConsumerLayers | None:
        """The layers that were asked for, as the worker understood it; None for simple ones."""
        return self._preferred_layers

    @property
    def current_layers(self) -> ConsumerLayers | None:
        """The layers that are sent; None: none, or a simple consumer."""
        return self._current_layers

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return shapes.consumer_dump(await self._request("CONSUMER_DUMP"))

    async def get_stats(self) -> list[JsonObject]:
        """Statistics of its stream (``outbound-rtp``) and, but for pipes, of the producer's (``inbound-rtp``)."""
        return shapes.stream_stats(await self._request("CONSUMER_GET_STATS"))

    async def pause(self) -> None:
        """Stop sending."""
        await self._request("CONSUMER_PAUSE")
        was_paused, self._paused = self._paused, True
        if not was_paused and not self._producer_paused:
            self._emit(self.PAUSE)

    async def resume(self) -> None:
        """Send again."""
        await self._request("CONSUMER_RESUME")
        was_paused, self._paused = self._paused, False
        if was_paused and not self._producer_paused:
            self._emit(self.RESUME)

    async def set_preferred_layers(
        self, layers: ConsumerLayers | Mapping[str, Any] | None = None, /, **given: int | None
    ) -> None:
        """Ask for a spatial and a temporal layer: a model, a JSON object, or ``spatial_layer=…, temporal_layer=…``.

        Raises:
            InvalidParameters: They are no layers.
        """
        wanted = parse(ConsumerLayers, layers if layers is not None else given)
        body = {"preferredLayers": wanted.to_json_dict()}
        answer = await self._request("CONSUMER_SET_PREFERRED_LAYERS", body)
        chosen = answer.get("preferredLayers")
        self._preferred_layers = ConsumerLayers.model_validate(chosen) if chosen is not None else None

    async def set_priority(self, priority: int) -> None:
        """Who gets bandwidth first on this transport: 1 (least, the default) to 255.

        Raises:
            InvalidParameters: It is no such number.
        """
        if type(priority) is not int or not 0 < priority <= 255:
            raise InvalidParameters("priority is from 1 to 255")
        answer = await self._request("CONSUMER_SET_PRIORITY", {"priority": priority})
        self._priority = int(answer["priority"])

    async def unset_priority(self) -> None:
        """Back to the least priority."""
        await self.set_priority(1)

    async def request_key_frame(self) -> None:
        """Ask the producer's endpoint for a key frame."""
        await self._request("CONSUMER_REQUEST_KEY_FRAME")

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; none switches it off."""
        await self._request("CONSUMER_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "TRANSPORT_CLOSE_CONSUMER", self._transport_id, {"consumerId": self._id}

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "CONSUMER_RTP":
                self._emit(self.RTP, body["data"])
            case "CONSUMER_SCORE":
                self._score = ConsumerScore.model_validate(body["score"])
                self._emit(self.SCORE, self._score)
            case "CONSUMER_LAYERS_CHANGE":
                layers = body.get("layers")
                self._current_layers = ConsumerLayers.model_validate(layers) if layers is not None else None
                self._emit(self.LAYERS_CHANGE, self._current_layers)
            case "CONSUMER_TRACE":
                self._emit(self.TRACE, shapes.trace(body))
            case "CONSUMER_PRODUCER_CLOSE":
                self._end("producerclose")
            case "CONSUMER_PRODUCER_PAUSE" if not self._producer_paused:
                self._producer_paused = True
                self._emit(self.PRODUCER_PAUSE)
                if not self._paused:
                    self._emit(self.PAUSE)
            case "CONSUMER_PRODUCER_RESUME" if self._producer_paused:
                self._producer_paused = False
                self._emit(self.PRODUCER_RESUME)
                if not self._paused:
                    self._emit(self.RESUME)
