"""The WebRTC transport of a peer at one place: a device for that worker's router, and one transport for each direction.

An endpoint is never repaired: when the peer moves or a transport fails, it is ``gone`` and the session makes another.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import structlog
from aiortc import MediaStreamTrack
from pymediasoup import AiortcHandler, Device
from pymediasoup.rtp_parameters import RtpCapabilities as PyRtpCapabilities

from mafalda.aio.tasks import TaskScope
from mafalda.client.config import ClientConfig
from mafalda.client.requests import PeerRequests
from mafalda.client.webrtc import compat
from mafalda.client.webrtc.ahead import TransportsAhead
from mafalda.client.webrtc.transport import ClientTransport, Direction, ProducerOptions
from mafalda.contract.messages.intents import CloseTransport, Consume, ConsumeData, ResumeConsumer
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult, Done, JoinResult
from mafalda.errors import CannotConsume, MafaldaError, UnsupportedError
from mafalda.media.rtp import ConsumerLayers, RtpCapabilities

_log = structlog.get_logger(__name__)


def new_id(kind: str) -> str:
    """A unique id: the kind, and 64 random bits."""
    return f"{kind}-{secrets.token_hex(8)}"


class Endpoint:
    """A peer at one place. ``gone`` is set, with a ``cause``, when the endpoint is of no more use.

    Args:
        placement: The place.
        requests: The peer's.
        config: Limits.
        tasks: Owns what runs in the background.
        ahead: Transports that were requested together with the join.
        replaces: The endpoint that goes on until this one carries media (make-before-break); ``None``: there is none.
    """

    def __init__(
        self,
        placement: JoinResult,
        requests: PeerRequests,
        config: ClientConfig,
        tasks: TaskScope,
        ahead: TransportsAhead,
        replaces: Endpoint | None = None,
    ) -> None:
        self.placement = placement
        self.replaces = replaces
        #: Whether the place goes on forwarding although the endpoint is gone, because the peer is handed over.
        self.is_handed_over = False
        self.gone = asyncio.Event()
        self.cause = ""
        self._requests = requests
        self._config = config
        self._tasks = tasks
        self._ahead = ahead
        self._device = Device(handlerFactory=AiortcHandler.createFactory())
        self._transports: dict[Direction, ClientTransport] = {}
        self._opening = asyncio.Lock()

    @property
    def generation(self) -> int:
        return self.placement.generation

    def lose(self, cause: str, *, handover: bool = False) -> None:
        """Mark this endpoint as gone; the first cause counts. ``handover``: it works until the next one has media."""
        if not self.gone.is_set():
            self.cause = cause
            self.is_handed_over = handover
            self.gone.set()

    def has_transport(self, transport: str) -> bool:
        """Whether the transport is one of this endpoint's."""
        return any(known.id == transport for known in self._transports.values())

    @property
    def is_connected(self) -> bool:
        """Whether a transport is connected, which shows the agent that the peer is alive."""
        return any(transport.is_connected for transport in self._transports.values())

    async def load(self) -> None:
        """Load the device with the router's capabilities."""
        capabilities = self.placement.router_rtp_capabilities.to_json_dict()
        await self._device.load(PyRtpCapabilities(**capabilities))

    async def produce(
        self, track: MediaStreamTrack, options: ProducerOptions, codec: str | None
    ) -> tuple[ClientTransport, Any]:
        """Send a track. ``codec`` is a name such as ``VP8``; ``None`` is the router's first.

        Raises:
            UnsupportedError: The router or aiortc has no such codec.
        """
        chosen = self._codec(track.kind, codec)
        transport = await self._transport("send")
        return transport, await transport.produce(track, options, chosen)

    async def produce_data(self, options: ProducerOptions, **channel: Any) -> tuple[ClientTransport, Any]:
        """Open a data channel for sending."""
        transport = await self._transport("send")
        return transport, await transport.produce_data(options, **channel)

    async def consume(
        self, consumer: str, producer: str, *, paused: bool, layers: ConsumerLayers | None
    ) -> tuple[ClientTransport, Any, ConsumeResult]:
        """Receive a producer. As mediasoup advises, its consumer is made paused and resumed when all is ready."""
        transport = await self._transport("receive")
        intent = Consume(
            consumer=consumer,
            transport=transport.id,
            producer=producer,
            rtp_capabilities=transport.capabilities_to_tell(),
            paused=True,
            preferred_layers=layers,
        )
        result = await self._request_consume(transport, intent)
        local = await transport.consume(result)
        if not paused:
            await self._requests.request(ResumeConsumer(consumer=consumer), Done)
        return transport, local, result

    async def _request_consume(self, transport: ClientTransport, intent: Consume) -> ConsumeResult:
        try:
            result = await self._requests.request(intent, ConsumeResult)
        except CannotConsume:
            if intent.rtp_capabilities.codecs:
                raise
            transport.capabilities_told(told=False)  # an agent of an earlier version keeps no capabilities
            again = intent.model_copy(update={"rtp_capabilities": transport.capabilities_to_tell()})
            return await self._requests.request(again, ConsumeResult)
        if intent.rtp_capabilities.codecs:
            transport.capabilities_told(told=True)
        return result

    async def consume_data(self, consumer: str, producer: str) -> tuple[ClientTransport, Any, ConsumeDataResult]:
        """Receive a data producer."""
        transport = await self._transport("receive")
        intent = ConsumeData(data_consumer=consumer, transport=transport.id, data_producer=producer)
        result = await self._requests.request(intent, ConsumeDataResult)
        return transport, await transport.consume_data(result), result

    async def open_receiver(self) -> RtpCapabilities:
        """Open the transport that receives, for what the agent makes by itself; returns what can be received."""
        await self._transport("receive")
        return compat.receivable(self._device)

    async def attach(self, result: ConsumeResult, *, paused: bool) -> tuple[ClientTransport, Any]:
        """Receive a consumer that the agent has made, paused, by itself."""
        transport = await self._transport("receive")
        local = await transport.consume(result)
        if not paused:
            await self._requests.request(ResumeConsumer(consumer=result.consumer), Done)
        return transport, local

    async def attach_data(self, result: ConsumeDataResult) -> tuple[ClientTransport, Any]:
        """Receive a data consumer that the agent has made by itself."""
        transport = await self._transport("receive")
        return transport, await transport.consume_data(result)

    async def close(self) -> None:
        """Close what is here; the worker's transports stay."""
        self.lose("closed")
        for transport in self._transports.values():
            await transport.close()

    async def close_there(self) -> None:
        """Close the worker's transports, if the agent answers."""
        for transport in self._transports.values():
            try:
                timeout_s = self._config.leave_timeout_s
                await self._requests.request(CloseTransport(transport=transport.id), Done, timeout_s=timeout_s)
            except MafaldaError as error:
                _log.info("could not close a transport", action="client_close_transport", reason=str(error))

    async def _transport(self, direction: Direction) -> ClientTransport:
        async with self._opening:
            transport = self._transports.get(direction)
            if transport is None:
                ahead = await self._ahead.take(direction, self.generation)
                transport_id = ahead.id if ahead else new_id(direction)
                transport = ClientTransport(
                    direction,
                    transport_id,
                    self._requests,
                    self._config,
                    self._tasks,
                    self.lose,
                    connects_first=self.replaces is not None,
                )
                capabilities = compat.receivable(self._device) if direction == "receive" else None
                await transport.open(self._device, capabilities, ahead.result if ahead else None)
                self._transports[direction] = transport
            return transport

    def _codec(self, kind: str, name: str | None) -> Any:
        if not self._device.canProduce(kind):
            raise UnsupportedError(f"the router takes no {kind} that aiortc can send")
        if name is None:
            return None
        wanted = f"{kind}/{name}".lower()
        for codec in self._device.sendRtpCapabilities.codecs:
            if codec.mimeType.lower() == wanted:
                return codec
        raise UnsupportedError("the router or aiortc does not have this codec", codec=name)
