"""One WebRTC transport of a client, sending or receiving: pymediasoup's, whose server side is requested by intents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from aiortc import MediaStreamTrack
from pymediasoup import Device
from pymediasoup.models.transport import DtlsParameters as PyDtlsParameters
from pymediasoup.models.transport import IceCandidate as PyIceCandidate
from pymediasoup.models.transport import IceParameters as PyIceParameters
from pymediasoup.rtp_parameters import RtpParameters as PyRtpParameters
from pymediasoup.sctp_parameters import SctpParameters as PySctpParameters
from pymediasoup.sctp_parameters import SctpStreamParameters as PySctpStreamParameters

from mafalda.aio.tasks import TaskScope
from mafalda.client.config import ClientConfig
from mafalda.client.requests import PeerRequests
from mafalda.client.webrtc import compat
from mafalda.client.webrtc.tracks import OutgoingTrack
from mafalda.contract.messages.intents import ConnectTransport, CreateTransport, Produce, ProduceData
from mafalda.contract.messages.results import (
    ConsumeDataResult,
    ConsumeResult,
    Done,
    ProduceDataResult,
    ProduceResult,
    TransportResult,
)
from mafalda.errors import Broken, MafaldaError
from mafalda.media.rtp import RtpCapabilities, RtpParameters
from mafalda.media.transport import (
    DtlsParameters,
    IceCandidate,
    NumSctpStreams,
    SctpStreamParameters,
)

Direction = Literal["send", "receive"]

#: aiortc's own limit, and pymediasoup's.
_SCTP_STREAMS = NumSctpStreams(os=1024, mis=1024)


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """How the application wants a producer."""

    id: str
    paused: bool = False
    app_data: dict[str, Any] = field(default_factory=dict)


async def create_transport(
    requests: PeerRequests, direction: Direction, id: str, capabilities: RtpCapabilities | None = None
) -> TransportResult:
    """Have a transport made on the peer's worker.

    Args:
        requests: The peer's.
        direction: Whether it sends or receives.
        id: The transport's.
        capabilities: What can be received on it, if that is known already.

    Raises:
        MafaldaError: It is refused, or there is no answer in time.
    """
    intent = CreateTransport(
        transport=id,
        direction=direction,
        enable_tcp=False,
        enable_sctp=True,
        num_sctp_streams=_SCTP_STREAMS,
        rtp_capabilities=capabilities,
    )
    return await requests.request(intent, TransportResult)


class ClientTransport:
    """A transport at one place.

    Args:
        direction: Whether it sends or receives.
        transport_id: Its id on the server.
        requests: The peer's.
        config: Limits.
        tasks: Owns what runs in the background.
        lose: Called with the cause when the transport is of no more use.
        connects_first: Whether producers are requested only when ICE and DTLS are connected, because another transport
            sends the same until then.
    """

    def __init__(
        self,
        direction: Direction,
        transport_id: str,
        requests: PeerRequests,
        config: ClientConfig,
        tasks: TaskScope,
        lose: Callable[[str], None],
        *,
        connects_first: bool = False,
    ) -> None:
        self.id = transport_id
        self._direction = direction
        self._requests = requests
        self._config = config
        self._tasks = tasks
        self._lose = lose
        self._connects_first = connects_first
        self._lock = asyncio.Lock()
        self._transport: Any = None
        self._candidates: list[IceCandidate] = []
        self._connected = asyncio.Event()
        self._connecting: asyncio.Task[MafaldaError | None] | None = None
        self._closed = False
        self._capabilities: RtpCapabilities | None = None
        self._are_capabilities_told = False

    @property
    def is_connected(self) -> bool:
        """Whether ICE and DTLS are connected."""
        return self._connected.is_set() and not self._closed

    async def wait_connected(self) -> None:
        """Wait until ICE and DTLS were connected."""
        await self._connected.wait()

    async def open(
        self, device: Device, capabilities: RtpCapabilities | None, result: TransportResult | None = None
    ) -> None:
        """Make the transport on the worker, unless it is there already (``result``), and its counterpart here.

        Args:
            device: Makes the counterpart.
            capabilities: What can be received on it.
            result: Of the transport, if it was requested before its capabilities were known.
        """
        self._capabilities = capabilities
        if result is None:
            self._are_capabilities_told = True
            result = await create_transport(self._requests, self._direction, self.id, capabilities)
        if result.ice_parameters is None:
            raise Broken("the agent sent no ICE parameters", transport=self.id)
        self._candidates = result.ice_candidates
        create = device.createSendTransport if self._direction == "send" else device.createRecvTransport
        sctp = result.sctp_parameters
        self._transport = create(
            id=self.id,
            iceParameters=PyIceParameters(**result.ice_parameters.to_json_dict()),
            iceCandidates=[PyIceCandidate(**candidate.to_json_dict()) for candidate in result.ice_candidates],
            dtlsParameters=PyDtlsParameters(**result.dtls_parameters.to_json_dict()),
            sctpParameters=PySctpParameters(**sctp.to_json_dict()) if sctp else None,
            iceServers=[],
        )
        compat.prepare(self._transport)
        self._transport.on("connect", self._on_connect)
        self._transport.on("produce", self._on_produce)
        self._transport.on("producedata", self._on_produce_data)
        self._transport.handler.pc.on("connectionstatechange", self._on_state)

    def capabilities_to_tell(self) -> RtpCapabilities:
        """What can be received, for a consume; empty if the agent has it already and keeps it."""
        return RtpCapabilities() if self._are_capabilities_told or self._capabilities is None else self._capabilities

    def capabilities_told(self, *, told: bool) -> None:
        """A consume has told the agent what can be received, or has shown that the agent has not kept it."""
        self._are_capabilities_told = told

    async def produce(self, track: MediaStreamTrack, options: ProducerOptions, codec: Any) -> Any:
        """Open a producer of this id for a track; pymediasoup's producer. ``start`` of its track begins to send."""
        sent = OutgoingTrack(track, paused=options.paused)
        async with self._lock:
            with compat.reachable_from_here(self._candidates):
                try:
                    return await self._transport.produce(track=sent, codec=codec, appData={"options": options})
                except BaseException:
                    sent.stop()  # the sender that was made already ends with its track
                    raise

    async def produce_data(self, options: ProducerOptions, **channel: Any) -> Any:
        """Open a data channel for sending; pymediasoup's data producer."""
        async with self._lock:
            with compat.reachable_from_here(self._candidates):
                return await self._transport.produceData(**channel, appData={"options": options})

    async def consume(self, result: ConsumeResult) -> Any:
        """Receive what the worker sends; pymediasoup's consumer."""
        async with self._lock:
            with compat.reachable_from_here(self._candidates):
                consumer = await self._transport.consume(
                    id=result.consumer,
                    producerId=result.producer,
                    kind=result.media_kind,
                    rtpParameters=PyRtpParameters(**result.rtp_parameters.to_json_dict()),
                )
        await self._wait_connected_there()
        return consumer

    async def consume_data(self, result: ConsumeDataResult) -> Any:
        """Open a data channel for receiving; pymediasoup's data consumer."""
        async with self._lock:
            with compat.reachable_from_here(self._candidates):
                consumer = await self._transport.consumeData(
                    id=result.data_consumer,
                    dataProducerId=result.data_producer,
                    sctpStreamParameters=PySctpStreamParameters(**result.sctp_stream_parameters.to_json_dict()),
                    label=result.label,
                    protocol=result.protocol,
                )
        await self._wait_connected_there()
        return consumer

    async def statistics(self, stream: Any) -> Mapping[str, Any] | None:
        """Aiortc's statistics of a producer or consumer; ``None``: it is closed."""
        if self._closed or self._transport is None:
            return None
        return cast("Mapping[str, Any] | None", await compat.stream_statistics(self._transport, stream))

    async def stop_producer(self, producer: Any) -> None:
        """Stop sending, while the transport stays open."""
        async with self._lock:
            if not self._closed:
                await compat.stop_sender(producer)

    async def stop_consumer(self, consumer: Any) -> None:
        """Stop receiving, while the transport stays open."""
        async with self._lock:
            if not self._closed:
                await compat.stop_receiver(self._transport, consumer)

    async def stop_data(self, channel: Any) -> None:
        """Close a data producer or consumer, while the transport stays open."""
        async with self._lock:
            if not self._closed:
                await channel.close()

    async def close(self) -> None:
        """Close pymediasoup's transport; the worker's stays."""
        if not self._closed:
            self._closed = True
            if self._transport is not None:
                await compat.close_transport(self._transport, self._config.close_timeout_s)

    # --- pymediasoup's events ------------------------------------------------------------------

    def _on_connect(self, dtls: Any) -> None:
        parameters = DtlsParameters.model_validate(dtls.model_dump(exclude_none=True))
        self._connecting = self._tasks.spawn(self._request_connect(parameters), f"connect-{self.id}")
        self._tasks.spawn(self._watch(), f"ice-{self.id}")

    async def _request_connect(self, parameters: DtlsParameters) -> MafaldaError | None:
        try:
            await self._requests.request(ConnectTransport(transport=self.id, dtls_parameters=parameters), Done)
        except MafaldaError as error:
            self._lose(f"{self._direction} transport refused: {error}")
            return error
        return None

    async def _wait_connected_there(self) -> None:
        """Wait for the answer to ``connect``: what is requested after it would fail for the same reason."""
        if self._connecting is not None and (error := await asyncio.shield(self._connecting)):
            raise error

    async def _wait_may_produce(self) -> None:
        await self._wait_connected_there()
        if self._connects_first:
            await self._connected.wait()

    async def _on_produce(self, kind: Literal["audio", "video"], rtp: Any, app_data: dict[str, Any]) -> str:
        if self._connects_first:
            await self._wait_may_produce()
        options: ProducerOptions = app_data["options"]
        intent = Produce(
            producer=options.id,
            transport=self.id,
            media_kind=kind,
            rtp_parameters=RtpParameters.model_validate(rtp.model_dump(exclude_none=True)),
            paused=options.paused,
            app_data=options.app_data,
        )
        opened = await self._requests.request(intent, ProduceResult)  # in one flight with ``connect``
        await self._wait_connected_there()
        return opened.producer

    async def _on_produce_data(
        self, *, sctpStreamParameters: Any, label: str, protocol: str, appData: dict[str, Any]
    ) -> str:
        await self._wait_may_produce()
        options: ProducerOptions = appData["options"]
        stream = sctpStreamParameters.model_dump(exclude_none=True)
        intent = ProduceData(
            data_producer=options.id,
            transport=self.id,
            sctp_stream_parameters=SctpStreamParameters.model_validate(stream),
            label=label,
            protocol=protocol,
            app_data=options.app_data,
        )
        return (await self._requests.request(intent, ProduceDataResult)).data_producer

    def _on_state(self) -> None:
        state = self._transport.handler.pc.connectionState
        if state == "connected":
            self._connected.set()
        elif state in ("failed", "closed", "disconnected") and not self._closed:
            self._lose(f"{self._direction} transport {state}")

    async def _watch(self) -> None:
        try:
            async with self._requests.clock.timeout(self._config.ice_timeout_s):
                await self._connected.wait()
        except TimeoutError:
            self._lose(f"{self._direction} transport not connected in time")
