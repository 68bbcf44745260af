"""A consumer: media of a producer that a transport sends to its endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mafalda.media.rtp import ConsumerLayers, ConsumerScore, ConsumerType, MediaKind, RtpParameters
from mafalda.mediasoup.base.checks import check_trace_types
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.pausable import PausableWithSource
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.ortc import parse

TRACE_TYPES = frozenset({"keyframe", "fir", "nack", "pli", "rtp"})


class Consumer(PausableWithSource):
    """Created by ``transport.consume``.

    ``pause`` and ``resume`` are about the consumer and its producer together, ``producerpause`` and ``producerresume``
    about the producer alone.
    """

    SCORE: ClassVar = Event[ConsumerScore]("score")
    LAYERS_CHANGE: ClassVar = Event[ConsumerLayers | None]("layerschange")
    TRACE: ClassVar = Event[JsonObject]("trace")
    RTP: ClassVar = Event[bytes]("rtp")
    PRODUCER_PAUSE: ClassVar = Event[None]("producerpause")
    PRODUCER_RESUME: ClassVar = Event[None]("producerresume")
    PRODUCER_CLOSE: ClassVar = Event[None]("producerclose")
    TRANSPORT_CLOSE: ClassVar = Event[None]("transportclose")

    CLOSE_METHOD = "TRANSPORT_CLOSE_CONSUMER"
    ID_KEY = "consumerId"
    PAUSE_METHOD = "CONSUMER_PAUSE"
    RESUME_METHOD = "CONSUMER_RESUME"

    def __init__(
        self,
        context: EntityContext,
        answer: JsonObject,
        *,
        producer_id: str,
        kind: MediaKind,
        type: ConsumerType,
        rtp_parameters: RtpParameters,
        mapped_ssrcs: tuple[int, ...],
    ) -> None:
        super().__init__(context, paused=answer["paused"], source_paused=answer["producerPaused"])
        self.producer_id = producer_id
        self.kind: MediaKind = kind
        self.type: ConsumerType = type
        self.rtp_parameters = rtp_parameters
        # The router's SSRCs of the producer's encodings; a relay produces with the same at the far end.
        self.mapped_ssrcs = mapped_ssrcs
        self._priority = 1
        self._score = ConsumerScore.model_validate(answer["score"])
        self._preferred_layers = _layers(answer.get("preferredLayers"))
        self._current_layers: ConsumerLayers | None = None

    @property
    def producer_paused(self) -> bool:
        """Whether its producer is paused."""
        return self._source_paused

    @property
    def priority(self) -> int:
        """1 (lowest) to 255."""
        return self._priority

    @property
    def score(self) -> ConsumerScore:
        """The last score of its stream and of its producer's."""
        return self._score

    @property
    def preferred_layers(self) -> ConsumerLayers | None:
        """The layers that were requested, as the worker accepted them; None for simple consumers."""
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

    async def set_preferred_layers(
        self, layers: ConsumerLayers | Mapping[str, Any] | None = None, /, **given: int | None
    ) -> None:
        """Request a spatial and a temporal layer: a model, a JSON object, or ``spatial_layer=…, temporal_layer=…``.

        Raises:
            InvalidParameters: They are not layers.
        """
        requested = parse(ConsumerLayers, layers if layers is not None else given)
        body = {"preferredLayers": requested.to_json_dict()}
        self.accept_preferred_layers(await self._request("CONSUMER_SET_PREFERRED_LAYERS", body))

    def accept_preferred_layers(self, answer: Mapping[str, Any]) -> None:
        """Note the layers that the worker has accepted, as it has answered ``CONSUMER_SET_PREFERRED_LAYERS``."""
        self._preferred_layers = _layers(answer.get("preferredLayers"))

    async def set_priority(self, priority: int) -> None:
        """Set which consumers of a transport get bandwidth first: 1 (lowest, the default) to 255.

        Raises:
            InvalidParameters: It is not such a number.
        """
        if type(priority) is not int or not 0 < priority <= 255:
            raise InvalidParameters("priority is from 1 to 255")
        answer = await self._request("CONSUMER_SET_PRIORITY", {"priority": priority})
        self._priority = int(answer["priority"])

    async def unset_priority(self) -> None:
        """Set the lowest priority."""
        await self.set_priority(1)

    async def request_key_frame(self) -> None:
        """Request a key frame from the producer's endpoint."""
        await self._request("CONSUMER_REQUEST_KEY_FRAME")

    async def enable_trace_event(self, types: Iterable[str] = ()) -> None:
        """Emit ``trace`` for these types (of ``TRACE_TYPES``) only; without types, never."""
        await self._request("CONSUMER_ENABLE_TRACE_EVENT", {"events": check_trace_types(types, TRACE_TYPES)})

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "CONSUMER_RTP":
                self._emit(self.RTP, body["data"])
            case "CONSUMER_SCORE":
                self._score = ConsumerScore.model_validate(body["score"])
                self._emit(self.SCORE, self._score)
            case "CONSUMER_LAYERS_CHANGE":
                self._current_layers = _layers(body.get("layers"))
                self._emit(self.LAYERS_CHANGE, self._current_layers)
            case "CONSUMER_TRACE":
                self._emit(self.TRACE, shapes.trace(body))
            case "CONSUMER_PRODUCER_CLOSE":
                self.end("producerclose")
            case "CONSUMER_PRODUCER_PAUSE":
                self._set_source_paused(True, self.PRODUCER_PAUSE)
            case "CONSUMER_PRODUCER_RESUME":
                self._set_source_paused(False, self.PRODUCER_RESUME)


def _layers(value: JsonObject | None) -> ConsumerLayers | None:
    return ConsumerLayers.model_validate(value) if value is not None else None
