"""A plain transport: RTP, RTCP or SRTP over UDP, for endpoints without ICE and DTLS (ffmpeg, GStreamer)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mafalda.media.rtp import SrtpParameters, TransportTuple
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.ortc import parse
from mafalda.mediasoup.transports.transport import Transport


class PlainTransport(Transport):
    """Created by ``router.create_plain_transport``."""

    TUPLE: ClassVar = Event[TransportTuple]("tuple")
    RTCP_TUPLE: ClassVar = Event[TransportTuple]("rtcptuple")

    type = "plain"
    _stats_type = "plain-rtp-transport"

    def __init__(self, context: EntityContext, router_context: RouterContext, dump: JsonObject) -> None:
        super().__init__(context, router_context, dump)
        self.rtcp_mux: bool = dump["rtcpMux"]
        self.comedia: bool = dump["comedia"]
        self._tuple = TransportTuple.model_validate(dump["tuple"])
        self._rtcp_tuple: TransportTuple | None = None
        self._srtp_parameters: SrtpParameters | None = None
        self._read(dump)

    @property
    def tuple(self) -> TransportTuple:
        """Local and, once known, remote address of RTP (and of RTCP, with ``rtcp_mux``)."""
        return self._tuple

    @property
    def rtcp_tuple(self) -> TransportTuple | None:
        """The same for RTCP; None with ``rtcp_mux``."""
        return self._rtcp_tuple

    @property
    def srtp_parameters(self) -> SrtpParameters | None:
        """Our SRTP key, for the endpoint; None without SRTP. A secret."""
        return self._srtp_parameters

    async def connect(
        self,
        *,
        ip: str | None = None,
        port: int | None = None,
        rtcp_port: int | None = None,
        srtp_parameters: SrtpParameters | Mapping[str, Any] | None = None,
    ) -> None:
        """Give the worker the endpoint's address and key. With ``comedia`` the address must be left out.

        Raises:
            InvalidParameters: Something is malformed, missing or superfluous.
            WorkerRequestFailed: It was called before.
        """
        srtp = parse(SrtpParameters, srtp_parameters) if srtp_parameters is not None else None
        body = {
            "ip": ip,
            "port": port,
            "rtcpPort": rtcp_port,
            "srtpParameters": srtp.to_json_dict() if srtp is not None else None,
        }
        answer = await self._request("PLAINTRANSPORT_CONNECT", body)
        for key in ("tuple", "rtcpTuple"):
            if key in answer:
                answer[key] = shapes.tuple_shape(answer[key])
        self._read(answer)

    def _read(self, data: JsonObject) -> None:
        if "tuple" in data:
            self._tuple = TransportTuple.model_validate(data["tuple"])
        if "rtcpTuple" in data:
            self._rtcp_tuple = TransportTuple.model_validate(data["rtcpTuple"])
        if "srtpParameters" in data:
            self._srtp_parameters = SrtpParameters.model_validate(data["srtpParameters"])

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "PLAINTRANSPORT_TUPLE":
                self._tuple = TransportTuple.model_validate(shapes.tuple_shape(body["tuple"]))
                self._emit(self.TUPLE, self._tuple)
            case "PLAINTRANSPORT_RTCP_TUPLE":
                tuple_ = TransportTuple.model_validate(shapes.tuple_shape(body["tuple"]))
                self._rtcp_tuple = tuple_
                self._emit(self.RTCP_TUPLE, tuple_)
            case _:
                super()._on_notification(event, body)
