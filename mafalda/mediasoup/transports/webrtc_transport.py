"""A WebRTC transport: ICE and DTLS to a browser or another WebRTC endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mafalda.media.rtp import DtlsParameters, IceCandidate, IceParameters, TransportTuple
from mafalda.mediasoup.base.entity import EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.ortc import parse
from mafalda.mediasoup.transports.transport import Transport

IceState = Literal["new", "connected", "completed", "disconnected", "closed"]
DtlsState = Literal["new", "connecting", "connected", "failed", "closed"]


class WebRtcTransport(Transport):
    """Created by ``router.create_webrtc_transport``."""

    ICE_STATE_CHANGE: ClassVar = Event[IceState]("icestatechange")
    ICE_SELECTED_TUPLE_CHANGE: ClassVar = Event[TransportTuple]("iceselectedtuplechange")
    DTLS_STATE_CHANGE: ClassVar = Event[DtlsState]("dtlsstatechange")
    LISTEN_SERVER_CLOSE: ClassVar = Event[None]("listenserverclose")

    type = "webrtc"
    _stats_type = "webrtc-transport"

    def __init__(self, context: EntityContext, router_context: RouterContext, dump: JsonObject) -> None:
        super().__init__(context, router_context, dump)
        self.ice_role: Literal["controlled", "controlling"] = dump["iceRole"]
        self.ice_candidates = tuple(IceCandidate.model_validate(item) for item in dump["iceCandidates"])
        self._ice_parameters = IceParameters.model_validate(dump["iceParameters"])
        self._ice_state: IceState = dump["iceState"]
        selected = dump.get("iceSelectedTuple")
        self._ice_selected_tuple = TransportTuple.model_validate(selected) if selected is not None else None
        self._dtls_parameters = DtlsParameters.model_validate(dump["dtlsParameters"])
        self._dtls_state: DtlsState = dump["dtlsState"]
        self._dtls_remote_cert: str | None = None

    @property
    def ice_parameters(self) -> IceParameters:
        """Our ICE credentials, for the endpoint. The password is a secret."""
        return self._ice_parameters

    @property
    def ice_state(self) -> IceState:
        """The state of ICE."""
        return self._ice_state

    @property
    def ice_selected_tuple(self) -> TransportTuple | None:
        """The addresses that ICE selected; None while it has selected none."""
        return self._ice_selected_tuple

    @property
    def dtls_parameters(self) -> DtlsParameters:
        """Our DTLS parameters, for the endpoint; the role is final after ``connect``."""
        return self._dtls_parameters

    @property
    def dtls_state(self) -> DtlsState:
        """The state of DTLS."""
        return self._dtls_state

    @property
    def dtls_remote_cert(self) -> str | None:
        """The endpoint's certificate in PEM, once DTLS is connected."""
        return self._dtls_remote_cert

    async def connect(self, *, dtls_parameters: DtlsParameters | Mapping[str, Any]) -> None:
        """Give the worker the endpoint's DTLS parameters.

        Raises:
            InvalidParameters: They are malformed.
            WorkerRequestFailed: It was called before.
        """
        parameters = parse(DtlsParameters, dtls_parameters)
        body = {"dtlsParameters": parameters.model_dump(by_alias=True)}
        answer = await self._request("WEBRTCTRANSPORT_CONNECT", body)
        self._dtls_parameters = self._dtls_parameters.model_copy(update={"role": answer["dtlsLocalRole"]})

    async def restart_ice(self) -> IceParameters:
        """Create new ICE credentials for the endpoint; the old ones stay valid until it uses the new ones."""
        answer = await self._request("TRANSPORT_RESTART_ICE")
        self._ice_parameters = IceParameters.model_validate(answer)
        return self._ice_parameters

    def _before_end_events(self) -> None:
        super()._before_end_events()
        self._ice_state = "closed"
        self._ice_selected_tuple = None
        self._dtls_state = "closed"

    def _on_notification(self, event: str, body: JsonObject) -> None:
        match event:
            case "WEBRTCTRANSPORT_ICE_STATE_CHANGE":
                self._ice_state = body["iceState"]
                self._emit(self.ICE_STATE_CHANGE, self._ice_state)
            case "WEBRTCTRANSPORT_ICE_SELECTED_TUPLE_CHANGE":
                tuple_ = TransportTuple.model_validate(shapes.tuple_shape(body["tuple"]))
                self._ice_selected_tuple = tuple_
                self._emit(self.ICE_SELECTED_TUPLE_CHANGE, tuple_)
            case "WEBRTCTRANSPORT_DTLS_STATE_CHANGE":
                self._dtls_state = body["dtlsState"]
                if self._dtls_state == "connected":
                    self._dtls_remote_cert = body.get("remoteCert")
                self._emit(self.DTLS_STATE_CHANGE, self._dtls_state)
            case _:
                super()._on_notification(event, body)
