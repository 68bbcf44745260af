"""Our WebRTC side at one placement: a device for that worker's router, and a transport each way, made when needed.

An endpoint is never mended: when the peer moves or a transport fails it is ``gone``, and another takes
its place. What does not belong here: deciding that (``session``).
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
from mafalda.client.session.requests import Asker
from mafalda.client.webrtc import compat
from mafalda.client.webrtc.transport import Direction, ProducerWish, Side
from mafalda.contract.messages.intents import CloseTransport, Consume, ConsumeData, ResumeConsumer
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult, Done, JoinResult
from mafalda.errors import MafaldaError, UnsupportedError
from mafalda.media.rtp import ConsumerLayers

_log = structlog.get_logger(__name__)


def new_id(kind: str) -> str:
    """An id that nobody else has: the kind, and 64 random bits."""
    return f"{kind}-{secrets.token_hex(8)}"


class Endpoint:
    """This peer at one placement. ``gone`` is set, with a ``cause``, when it is of no more use."""

    def __init__(self, placement: JoinResult, asker: Asker, config: ClientConfig, tasks: TaskScope) -> None:
        self.placement = placement
        self.gone = asyncio.Event()
        self.cause = ""
        self._asker = asker
        self._config = config
        self._tasks = tasks
        self._device = Device(handlerFactory=AiortcHandler.createFactory())
        self._sides: dict[Direction, Side] = {}
        self._opening = asyncio.Lock()

    @property
    def generation(self) -> int:
        return self.placement.generation

    def lose(self, cause: str) -> None:
        """Say that this endpoint is of no more use; the first cause counts."""
        if not self.gone.is_set():
            self.cause = cause
            self.gone.set()

    def has_transport(self, transport: str) -> bool:
        """Whether the transport is one of ours, here."""
        return any(side.id == transport for side in self._sides.values())

    @property
    def is_connected(self) -> bool:
        """Whether a transport of ours is connected, which shows the agent that we live."""
        return any(side.is_connected for side in self._sides.values())

    async def load(self) -> None:
        """Negotiate our abilities with the router's."""
        capabilities = self.placement.router_rtp_capabilities.to_json_dict()
        await self._device.load(PyRtpCapabilities(**capabilities))

    async def produce(self, track: MediaStreamTrack, wish: ProducerWish, codec: str | None) -> tuple[Side, Any]:
        """Send a track. ``codec`` is a name such as ``VP8``; ``None`` is the router's first.

        Raises:
            UnsupportedError: The router has no such codec, or we have not.
        """
        chosen = self._codec(track.kind, codec)
        side = await self._side("send")
        return side, await side.produce(track, wish, chosen)

    async def produce_data(self, wish: ProducerWish, **channel: Any) -> tuple[Side, Any]:
        """Open a data channel for sending."""
        side = await self._side("send")
        return side, await side.produce_data(wish, **channel)

    async def consume(
        self, consumer: str, producer: str, *, paused: bool, layers: ConsumerLayers | None
    ) -> tuple[Side, Any, ConsumeResult]:
        """Receive a producer: asked for paused, resumed when we are ready, as mediasoup advises."""
        side = await self._side("receive")
        intent = Consume(
            consumer=consumer,
            transport=side.id,
            producer=producer,
            rtp_capabilities=compat.receivable(self._device),
            paused=True,
            preferred_layers=layers,
        )
        result = await self._asker.ask(intent, ConsumeResult)
        local = await side.consume(result)
        if not paused:
            await self._asker.ask(ResumeConsumer(consumer=consumer), Done)
        return side, local, result

    async def consume_data(self, consumer: str, producer: str) -> tuple[Side, Any, ConsumeDataResult]:
        """Receive a data producer."""
        side = await self._side("receive")
        intent = ConsumeData(data_consumer=consumer, transport=side.id, data_producer=producer)
        result = await self._asker.ask(intent, ConsumeDataResult)
        return side, await side.consume_data(result), result

    async def close(self) -> None:
        """Close what is here; the worker's side is not told."""
        self.lose("closed")
        for side in self._sides.values():
            await side.close()

    async def close_there(self) -> None:
        """Have the worker's transports closed, if anybody answers."""
        for side in self._sides.values():
            try:
                timeout_s = self._config.leave_timeout_s
                await self._asker.ask(CloseTransport(transport=side.id), Done, timeout_s=timeout_s)
            except MafaldaError as error:
                _log.info("could not close a transport", action="client.close-transport", reason=str(error))

    async def _side(self, direction: Direction) -> Side:
        async with self._opening:
            side = self._sides.get(direction)
            if side is None:
                side = Side(direction, new_id(direction), self._asker, self._config, self._tasks, self.lose)
                await side.open(self._device)
                self._sides[direction] = side
            return side

    def _codec(self, kind: str, name: str | None) -> Any:
        if not self._device.canProduce(kind):
            raise UnsupportedError(f"the router can take no {kind} of ours")
        if name is None:
            return None
        wanted = f"{kind}/{name}".lower()
        for codec in self._device.sendRtpCapabilities.codecs:
            if codec.mimeType.lower() == wanted:
                return codec
        raise UnsupportedError("the router or aiortc does not have this codec", codec=name)
