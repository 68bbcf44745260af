"""A router: it forwards media between its transports, with the codecs that it was created with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mafalda.media.rtp import SrtpCryptoSuite
from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.base.ids import new_id
from mafalda.mediasoup.errors import InvalidParameters
from mafalda.mediasoup.router.active_speaker_observer import ActiveSpeakerObserver
from mafalda.mediasoup.router.audio_level_observer import AudioLevelObserver
from mafalda.mediasoup.router.router_base import O, RouterBase, T
from mafalda.mediasoup.router.webrtc_server import WebRtcServer
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.mediasoup.transports.listen import AnyListenInfo, listen_info_bodies, listen_info_body
from mafalda.mediasoup.transports.pipe_transport import PipeTransport
from mafalda.mediasoup.transports.plain_transport import PlainTransport
from mafalda.mediasoup.transports.sctp_limits import SctpLimits
from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport

DEFAULT_LIMITS = SctpLimits()
# mediasoup's defaults: bits per second, and seconds.
INITIAL_OUTGOING_BITRATE = 600_000
ICE_CONSENT_TIMEOUT = 30


class Router(RouterBase):
    """Created by ``worker.create_router``."""

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
        """Create a transport for a WebRTC endpoint, on ports of its own or on a WebRTC server.

        Args:
            listen_infos: Where it listens, best first.
            webrtc_server: Instead of ``listen_infos``.
            id: None: a new UUID4.
            enable_udp: Offer the WebRTC server's UDP candidates (``listen_infos`` have their own protocols).
            enable_tcp: Offer the WebRTC server's TCP candidates.
            prefer_udp: Give the WebRTC server's UDP candidates the higher priority.
            prefer_tcp: Give the WebRTC server's TCP candidates the higher priority.
            ice_consent_timeout: Seconds without ICE consent after which ICE is disconnected; 0: never.
            initial_available_outgoing_bitrate: What bandwidth estimation starts from, in bits per second.
            enable_sctp: Take data channels.
            sctp_limits: Sizes of messages and buffers.
            app_data: The application's own.

        Raises:
            InvalidParameters: Both or neither of the first two, or something is malformed.
            WorkerRequestFailed: It cannot listen there, or no port is free.
        """
        method, listen = _listen(listen_infos, webrtc_server)
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
            webrtc_server.handle_transport(transport)
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
        """Create a transport for plain RTP.

        Args:
            listen_info: Where it listens.
            rtcp_listen_info: Where it listens for RTCP; switches ``rtcp_mux`` off.
            id: None: a new UUID4.
            rtcp_mux: RTP and RTCP on one port.
            comedia: Take the endpoint's address from its first packet.
            enable_srtp: Encrypt with SRTP.
            srtp_crypto_suite: The cipher and its key length.
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
        """Create one end of a pipe to another router.

        Args:
            listen_info: Where it listens.
            id: None: a new UUID4.
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
        """Create a transport between this process and the router; of ``sctp_limits`` only the message sizes count.

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
        """Create an RTP observer that emits the dominant speaker, at most every ``interval`` milliseconds.

        Raises:
            InvalidParameters: The interval is out of its range.
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
        """Create an RTP observer that emits how loud its producers are.

        Args:
            max_entries: How many of the loudest producers an event holds.
            threshold: Producers below this level are silent, in dBvo: -127 to 0.
            interval: How often, in milliseconds.
            id: None: a new UUID4.
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
        transport, _ = await self.make_transport(
            kind, method, {"transportId": new_id(id), "options": options}, app_data
        )
        return transport

    async def _create_observer(
        self, kind: type[O], method: str, options: JsonObject, id: str | None, app_data: Mapping[str, Any] | None
    ) -> O:
        self._check_open()
        body = {"rtpObserverId": new_id(id), "options": options}
        observer, _ = await self.make_observer(kind, method, body, app_data)
        return observer


def _listen(
    listen_infos: Sequence[AnyListenInfo] | None, webrtc_server: WebRtcServer | None
) -> tuple[str, tuple[str, JsonObject]]:
    """The method that creates a WebRTC transport, and the union with its addresses."""
    if (webrtc_server is None) == (listen_infos is None):
        raise InvalidParameters("one of listen_infos and webrtc_server is needed")
    if webrtc_server is not None:
        return "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER", ("ListenServer", {"webRtcServerId": webrtc_server.id})
    return "ROUTER_CREATE_WEBRTCTRANSPORT", (
        "ListenIndividual",
        {"listenInfos": listen_info_bodies(listen_infos or ())},
    )
