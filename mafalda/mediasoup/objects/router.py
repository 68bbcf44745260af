"""A router: what forwards media between its transports, with the codecs that it was made with.

What does not belong here: the transports' own ways, negotiation (``ortc``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from mafalda.media.rtp import RtpCapabilities, SrtpCryptoSuite
from mafalda.mediasoup import ortc
from mafalda.mediasoup.channel.channel import Channel, Undo
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import InvalidParameters, NotFound, ObjectClosed
from mafalda.mediasoup.objects.entity import CloseCause, Entity, JsonObject, check_id, new_id
from mafalda.mediasoup.objects.events import Event
from mafalda.mediasoup.objects.scopes import unscoped
from mafalda.mediasoup.objects.webrtc_server import WebRtcServer
from mafalda.mediasoup.observers.active_speaker_observer import ActiveSpeakerObserver
from mafalda.mediasoup.observers.audio_level_observer import AudioLevelObserver
from mafalda.mediasoup.observers.rtp_observer import RtpObserver
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.mediasoup.transports.listen import AnyListenInfo, listen_info_bodies, listen_info_body
from mafalda.mediasoup.transports.pipe_transport import PipeTransport
from mafalda.mediasoup.transports.plain_transport import PlainTransport
from mafalda.mediasoup.transports.sctp_limits import SctpLimits
from mafalda.mediasoup.transports.transport import Transport
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport

DEFAULT_LIMITS = SctpLimits()
# mediasoup's defaults: bits per second, and seconds.
INITIAL_OUTGOING_BITRATE = 600_000
ICE_CONSENT_TIMEOUT = 30

T = TypeVar("T", bound=Transport)
O = TypeVar("O", bound=RtpObserver)  # noqa: E741


class Router(Entity):
    """Made by ``worker.create_router``."""

    NEW_TRANSPORT: ClassVar = Event[Transport]("newtransport")
    NEW_RTP_OBSERVER: ClassVar = Event[RtpObserver]("newrtpobserver")
    WORKER_CLOSE: ClassVar = Event[None]("workerclose")

    def __init__(
        self,
        channel: Channel,
        id: str,
        app_data: Mapping[str, Any] | None,
        forget: Callable[[Any], None],
        rtp_capabilities: RtpCapabilities,
        scope: str = "",
    ) -> None:
        super().__init__(channel, id, app_data, forget)
        self.scope = scope
        self._rtp_capabilities = rtp_capabilities
        self._transports: dict[str, Transport] = {}
        self._rtp_observers: dict[str, RtpObserver] = {}
        self._producers: dict[str, Producer] = {}
        self._data_producers: dict[str, DataProducer] = {}

    @property
    def rtp_capabilities(self) -> RtpCapabilities:
        """What it can receive, for endpoints to choose from."""
        return self._rtp_capabilities

    def scoped(self, id: str) -> str:
        """The worker's id for a producer of this router: a worker has one name space for all of its routers."""
        return id + self.scope

    @property
    def transports(self) -> Mapping[str, Transport]:
        """Its open transports by id."""
        return self._transports

    @property
    def rtp_observers(self) -> Mapping[str, RtpObserver]:
        """Its open observers by id."""
        return self._rtp_observers

    def get_producer(self, producer_id: str) -> Producer | None:
        """The open producer with this id, on whichever transport."""
        return self._producers.get(producer_id)

    def get_data_producer(self, data_producer_id: str) -> DataProducer | None:
        """The open data producer with this id, on whichever transport."""
        return self._data_producers.get(data_producer_id)

    def require_producer(self, producer_id: str) -> Producer:
        """The open producer with this id.

        Raises:
            NotFound: There is none.
            InvalidParameters: It is no id.
        """
        producer = self._producers.get(check_id(producer_id))
        if producer is None:
            raise NotFound("the router has no such producer", producer_id=producer_id)
        return producer

    def require_data_producer(self, data_producer_id: str) -> DataProducer:
        """The open data producer with this id.

        Raises:
            NotFound: There is none.
            InvalidParameters: It is no id.
        """
        data_producer = self._data_producers.get(check_id(data_producer_id))
        if data_producer is None:
            raise NotFound("the router has no such data producer", data_producer_id=data_producer_id)
        return data_producer

    def can_consume(self, *, producer_id: str, rtp_capabilities: RtpCapabilities | Mapping[str, Any]) -> bool:
        """Whether an endpoint with these capabilities can receive the producer.

        Raises:
            InvalidParameters: The capabilities are malformed.
        """
        producer = self._producers.get(producer_id)
        return producer is not None and ortc.can_consume(producer.consumable_rtp_parameters, rtp_capabilities)

    def update_media_codecs(self, media_codecs: Sequence[Any]) -> None:
        """Other codecs for what is produced from now on.

        Raises:
            InvalidParameters: One is malformed.
            UnsupportedError: mediasoup does not know one.
        """
        self._rtp_capabilities = ortc.generate_router_rtp_capabilities(media_codecs)

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        dump: JsonObject = unscoped(await self._request("ROUTER_DUMP"), self.scope)
        return dump

    async def create_webrtc_transport(
        self,
        *,
        listen_infos: Sequence[AnyListenInfo] | None = None,
        webrtc_server: WebRtcServer | None = None,
        id: str | None = None,
        enable_udp: bool = True,
        enable_tcp: bool = True,
        prefer_udp: bool = False,
        prefer_tcp: bool = False,
        ice_consent_timeout: int = ICE_CONSENT_TIMEOUT,
        initial_available_outgoing_bitrate: int = INITIAL_OUTGOING_BITRATE,
        enable_sctp: bool = False,
        sctp_limits: SctpLimits = DEFAULT_LIMITS,
        app_data: Mapping[str, Any] | None = None,
    ) -> WebRtcTransport:
        """Make a transport for a WebRTC endpoint, on ports of its own or on a WebRTC server.

        Args:
            listen_infos: Where it listens, best first.
            webrtc_server: Instead of ``listen_infos``.
            id: None is a fresh UUID4.
            enable_udp: Offer the WebRTC server's UDP candidates (``listen_infos`` say it themselves).
            enable_tcp: Offer the WebRTC server's TCP candidates.
            prefer_udp: Give the WebRTC server's UDP candidates the higher priority.
            prefer_tcp: Give the WebRTC server's TCP candidates the higher priority.
            ice_consent_timeout: Seconds of silence after which ICE is disconnected; 0: never.
            initial_available_outgoing_bitrate: What bandwidth estimation starts from, in bits per second.
            enable_sctp: Take data channels.
            sctp_limits: Sizes of messages and buffers.
            app_data: The application's own.

        Raises:
            InvalidParameters: Both or neither of the first two, or something is malformed.
            WorkerRequestFailed: It cannot listen there, or no port is free.
        """
        if (webrtc_server is None) == (listen_infos is None):
            raise InvalidParameters("one of listen_infos and webrtc_server is needed")
        listen: tuple[str, JsonObject]
        if webrtc_server is not None:
            method = "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER"
            listen = ("ListenServer", {"webRtcServerId": webrtc_server.id})
        else:
            method = "ROUTER_CREATE_WEBRTCTRANSPORT"
            listen = ("ListenIndividual", {"listenInfos": listen_info_bodies(listen_infos or ())})
        base = sctp_limits.base_options(enable_sctp=enable_sctp, is_data_channel=True)
        base["initialAvailableOutgoingBitrate"] = initial_available_outgoing_bitrate
        options = {
            "base": base,
            "listen": listen,
            "enableUdp": enable_udp,
            "enableTcp": enable_tcp,
            "preferUdp": prefer_udp,
            "preferTcp": prefer_tcp,
            "iceConsentTimeout": ice_consent_timeout,
        }
        transport = await self._create_transport(WebRtcTransport, method, id, options, app_data)
        if webrtc_server is not None:
            webrtc_server._handle(transport)
        return transport

    async def create_plain_transport(
        self,
        *,
        listen_info: AnyListenInfo,
        rtcp_listen_info: AnyListenInfo | None = None,
        id: str | None = None,
        rtcp_mux: bool = True,
        comedia: bool = False,
        enable_srtp: bool = False,
        srtp_crypto_suite: SrtpCryptoSuite = "AES_CM_128_HMAC_SHA1_80",
        enable_sctp: bool = False,
        sctp_limits: SctpLimits = DEFAULT_LIMITS,
        app_data: Mapping[str, Any] | None = None,
    ) -> PlainTransport:
        """Make a transport for plain RTP.

        Args:
            listen_info: Where it listens.
            rtcp_listen_info: Where it listens for RTCP; switches ``rtcp_mux`` off.
            id: None is a fresh UUID4.
            rtcp_mux: RTP and RTCP on one port.
            comedia: Learn the endpoint's address from its first packet.
            enable_srtp: Encrypt.
            srtp_crypto_suite: How to.
            enable_sctp: Take data over SCTP.
            sctp_limits: Sizes of messages and buffers.
            app_data: The application's own.

        Raises:
            InvalidParameters: Something is malformed.
            WorkerRequestFailed: It cannot listen there, or no port is free.
        """
        options = {
            "base": sctp_limits.base_options(enable_sctp=enable_sctp, is_data_channel=False),
            "listenInfo": listen_info_body(listen_info),
            "rtcpListenInfo": listen_info_body(rtcp_listen_info) if rtcp_listen_info is not None else None,
            "rtcpMux": rtcp_mux and rtcp_listen_info is None,
            "comedia": comedia,
            "enableSrtp": enable_srtp,
            "srtpCryptoSuite": srtp_crypto_suite,
        }
        return await self._create_transport(PlainTransport, "ROUTER_CREATE_PLAINTRANSPORT", id, options, app_data)

    async def create_pipe_transport(
        self,
        *,
        listen_info: AnyListenInfo,
        id: str | None = None,
        enable_rtx: bool = False,
        enable_srtp: bool = False,
        enable_sctp: bool = False,
        sctp_limits: SctpLimits = DEFAULT_LIMITS,
        app_data: Mapping[str, Any] | None = None,
    ) -> PipeTransport:
        """Make one end of a pipe to another router.

        Args:
            listen_info: Where it listens.
            id: None is a fresh UUID4.
            enable_rtx: Retransmit what is lost on the way; on both ends or on none.
            enable_srtp: Encrypt; on both ends or on none.
            enable_sctp: Take data producers.
            sctp_limits: Sizes of messages and buffers.
            app_data: The application's own.

        Raises:
            InvalidParameters: Something is malformed.
            WorkerRequestFailed: It cannot listen there, or no port is free.
        """
        options = {
            "base": sctp_limits.base_options(enable_sctp=enable_sctp, is_data_channel=False),
            "listenInfo": listen_info_body(listen_info),
            "enableRtx": enable_rtx,
            "enableSrtp": enable_srtp,
        }
        return await self._create_transport(PipeTransport, "ROUTER_CREATE_PIPETRANSPORT", id, options, app_data)

    async def create_direct_transport(
        self,
        *,
        id: str | None = None,
        sctp_limits: SctpLimits = DEFAULT_LIMITS,
        app_data: Mapping[str, Any] | None = None,
    ) -> DirectTransport:
        """Make a transport between this process and the router; of ``sctp_limits`` only the message sizes count.

        Raises:
            InvalidParameters: Something is malformed.
        """
        base = {
            "direct": True,
            "maxSendMessageSize": sctp_limits.max_send_message_size,
            "maxReceiveMessageSize": sctp_limits.max_receive_message_size,
        }
        return await self._create_transport(
            DirectTransport, "ROUTER_CREATE_DIRECTTRANSPORT", id, {"base": base}, app_data
        )

    async def create_active_speaker_observer(
        self, *, interval: int = 300, id: str | None = None, app_data: Mapping[str, Any] | None = None
    ) -> ActiveSpeakerObserver:
        """Make an observer that tells who speaks, at most every ``interval`` milliseconds.

        Raises:
            InvalidParameters: The interval is no such number.
        """
        method = "ROUTER_CREATE_ACTIVESPEAKEROBSERVER"
        return await self._create_observer(ActiveSpeakerObserver, method, {"interval": interval}, id, app_data)

    async def create_audio_level_observer(
        self,
        *,
        max_entries: int = 1,
        threshold: int = -80,
        interval: int = 1000,
        id: str | None = None,
        app_data: Mapping[str, Any] | None = None,
    ) -> AudioLevelObserver:
        """Make an observer that tells how loud producers are.

        Args:
            max_entries: How many of the loudest it names.
            threshold: Quieter is silence, in dBvo: -127 to 0.
            interval: How often, in milliseconds.
            id: None is a fresh UUID4.
            app_data: The application's own.

        Raises:
            InvalidParameters: A number is out of its range.
        """
        if type(max_entries) is not int or max_entries <= 0:
            raise InvalidParameters("max_entries must be a positive integer")
        if type(threshold) is not int or not -127 <= threshold <= 0:
            raise InvalidParameters("threshold is from -127 to 0")
        options = {"maxEntries": max_entries, "threshold": threshold, "interval": interval}
        method = "ROUTER_CREATE_AUDIOLEVELOBSERVER"
        return await self._create_observer(AudioLevelObserver, method, options, id, app_data)

    async def _create_transport(
        self, kind: type[T], method: str, id: str | None, options: JsonObject, app_data: Mapping[str, Any] | None
    ) -> T:
        self._check_open()
        transport_id = new_id(id)
        undo = Undo("ROUTER_CLOSE_TRANSPORT", self._id, {"transportId": transport_id})
        answer = await self._create(method, transport_id, {"transportId": transport_id, "options": options}, undo)
        transport = kind(self._channel, transport_id, app_data, self, shapes.transport_dump(answer))
        self._transports[transport_id] = transport
        transport._subscribe()
        self._emit(self.NEW_TRANSPORT, transport)
        return transport

    async def _create_observer(
        self, kind: type[O], method: str, options: JsonObject, id: str | None, app_data: Mapping[str, Any] | None
    ) -> O:
        self._check_open()
        observer_id = new_id(id)
        undo = Undo("ROUTER_CLOSE_RTPOBSERVER", self._id, {"rtpObserverId": observer_id})
        await self._create(method, observer_id, {"rtpObserverId": observer_id, "options": options}, undo)
        observer = kind(self._channel, observer_id, app_data, self)
        self._rtp_observers[observer_id] = observer
        observer._subscribe()
        self._emit(self.NEW_RTP_OBSERVER, observer)
        return observer

    async def _create(self, method: str, id: str, body: JsonObject, undo: Undo) -> JsonObject:
        answer = await self._channel.request(method, self._id, body, creates=id, undo=undo)
        if self._closed:
            self._channel.unsubscribe(id)
            raise ObjectClosed("closed meanwhile", kind="Router", object_id=self._id)
        return answer

    def _adopt_child(self, child: Entity) -> None:
        if isinstance(child, Producer):
            self._producers[child.id] = child
        elif isinstance(child, DataProducer):
            self._data_producers[child.id] = child

    def _forget_producer(self, producer: Producer) -> None:
        self._producers.pop(producer.id, None)

    def _forget_data_producer(self, data_producer: DataProducer) -> None:
        self._data_producers.pop(data_producer.id, None)

    def _forget_transport(self, transport: Transport) -> None:
        self._transports.pop(transport.id, None)

    def _forget_rtp_observer(self, observer: RtpObserver) -> None:
        self._rtp_observers.pop(observer.id, None)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        for transport in self._transports.values():
            yield transport, "routerclose"
        for observer in self._rtp_observers.values():
            yield observer, "routerclose"

    def _close_request(self) -> tuple[str, str, JsonObject]:
        return "WORKER_CLOSE_ROUTER", "", {"routerId": self._id}
