"""The worker's side of the channel: it decodes requests, and encodes answers, notifications and log lines.

A process that stands in for a mediasoup-worker uses it; ``messages`` is the library's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mafalda.mediasoup.channel.messages import REQUEST_BODIES, SCHEMA
from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.errors import FramingError

_ROOT = "FBS.Message.Message"
_ENCODER = Encoder(SCHEMA)
_DECODER = Decoder(SCHEMA)

# The body of each method's answer, as a member of the schema's union; ``{}`` is the kind of the transport.
RESPONSE_BODIES: Mapping[str, str] = {
    "WORKER_DUMP": "Worker_DumpResponse",
    "WORKER_GET_RESOURCE_USAGE": "Worker_ResourceUsageResponse",
    "WEBRTCSERVER_DUMP": "WebRtcServer_DumpResponse",
    "ROUTER_DUMP": "Router_DumpResponse",
    "ROUTER_CREATE_WEBRTCTRANSPORT": "WebRtcTransport_DumpResponse",
    "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER": "WebRtcTransport_DumpResponse",
    "ROUTER_CREATE_PLAINTRANSPORT": "PlainTransport_DumpResponse",
    "ROUTER_CREATE_PIPETRANSPORT": "PipeTransport_DumpResponse",
    "ROUTER_CREATE_DIRECTTRANSPORT": "DirectTransport_DumpResponse",
    "TRANSPORT_DUMP": "{}_DumpResponse",
    "TRANSPORT_GET_STATS": "{}_GetStatsResponse",
    "TRANSPORT_RESTART_ICE": "Transport_RestartIceResponse",
    "TRANSPORT_PRODUCE": "Transport_ProduceResponse",
    "TRANSPORT_PRODUCE_DATA": "DataProducer_DumpResponse",
    "TRANSPORT_CONSUME": "Transport_ConsumeResponse",
    "TRANSPORT_CONSUME_DATA": "DataConsumer_DumpResponse",
    "PLAINTRANSPORT_CONNECT": "PlainTransport_ConnectResponse",
    "PIPETRANSPORT_CONNECT": "PipeTransport_ConnectResponse",
    "WEBRTCTRANSPORT_CONNECT": "WebRtcTransport_ConnectResponse",
    "PRODUCER_DUMP": "Producer_DumpResponse",
    "PRODUCER_GET_STATS": "Producer_GetStatsResponse",
    "CONSUMER_DUMP": "Consumer_DumpResponse",
    "CONSUMER_GET_STATS": "Consumer_GetStatsResponse",
    "CONSUMER_SET_PREFERRED_LAYERS": "Consumer_SetPreferredLayersResponse",
    "CONSUMER_SET_PRIORITY": "Consumer_SetPriorityResponse",
    "DATAPRODUCER_DUMP": "DataProducer_DumpResponse",
    "DATAPRODUCER_GET_STATS": "DataProducer_GetStatsResponse",
    "DATACONSUMER_DUMP": "DataConsumer_DumpResponse",
    "DATACONSUMER_GET_STATS": "DataConsumer_GetStatsResponse",
    "DATACONSUMER_GET_BUFFERED_AMOUNT": "DataConsumer_GetBufferedAmountResponse",
    "DATACONSUMER_SEND": "DataConsumer_SendResponse",
    "DATACONSUMER_SET_SUBCHANNELS": "DataConsumer_SetSubchannelsResponse",
    "DATACONSUMER_ADD_SUBCHANNEL": "DataConsumer_AddSubchannelResponse",
    "DATACONSUMER_REMOVE_SUBCHANNEL": "DataConsumer_RemoveSubchannelResponse",
}

# The body of each notification that has one, as a member of the schema's union.
NOTIFICATION_BODIES: Mapping[str, str] = {
    "TRANSPORT_SCTP_STATE_CHANGE": "Transport_SctpStateChangeNotification",
    "TRANSPORT_SCTP_NEGOTIATED_CAPABILITIES": "Transport_SctpNegotiatedCapabilitiesNotification",
    "TRANSPORT_TRACE": "Transport_TraceNotification",
    "WEBRTCTRANSPORT_ICE_SELECTED_TUPLE_CHANGE": "WebRtcTransport_IceSelectedTupleChangeNotification",
    "WEBRTCTRANSPORT_ICE_STATE_CHANGE": "WebRtcTransport_IceStateChangeNotification",
    "WEBRTCTRANSPORT_DTLS_STATE_CHANGE": "WebRtcTransport_DtlsStateChangeNotification",
    "PLAINTRANSPORT_TUPLE": "PlainTransport_TupleNotification",
    "PLAINTRANSPORT_RTCP_TUPLE": "PlainTransport_RtcpTupleNotification",
    "DIRECTTRANSPORT_RTCP": "DirectTransport_RtcpNotification",
    "PRODUCER_SCORE": "Producer_ScoreNotification",
    "PRODUCER_TRACE": "Producer_TraceNotification",
    "PRODUCER_VIDEO_ORIENTATION_CHANGE": "Producer_VideoOrientationChangeNotification",
    "CONSUMER_LAYERS_CHANGE": "Consumer_LayersChangeNotification",
    "CONSUMER_RTP": "Consumer_RtpNotification",
    "CONSUMER_SCORE": "Consumer_ScoreNotification",
    "CONSUMER_TRACE": "Consumer_TraceNotification",
    "DATACONSUMER_MESSAGE": "DataConsumer_MessageNotification",
    "DATACONSUMER_BUFFERED_AMOUNT_LOW": "DataConsumer_BufferedAmountLowNotification",
    "ACTIVESPEAKEROBSERVER_DOMINANT_SPEAKER": "ActiveSpeakerObserver_DominantSpeakerNotification",
    "AUDIOLEVELOBSERVER_VOLUMES": "AudioLevelObserver_VolumesNotification",
}


# Bodies that a worker sends even if they are empty, as for the preferred layers of a simple consumer: some libraries
# read them without a check.
_MAY_BE_EMPTY = frozenset(
    member
    for member, (_, table) in SCHEMA.unions["FBS.Response.Body"].members.items()
    if not any(field is not None and field.required for field in table.by_slot)
)


class Request(NamedTuple):
    """A request of a library to its worker."""

    id: int
    method: str
    handler: str
    body: dict[str, Any] | None


class Notification(NamedTuple):
    """A notification of a library to its worker."""

    event: str
    handler: str
    body: dict[str, Any] | None


def decode(payload: bytes) -> Request | Notification:
    """A message from a library.

    Raises:
        FramingError: It is not such a message.
    """
    kind, data = _DECODER.decode(_ROOT, payload).get("data", ("nothing", {}))
    body = data["body"][1] if "body" in data else None
    if kind == "Request":
        return Request(data["id"], data["method"], data["handlerId"], body)
    if kind == "Notification":
        return Notification(data["event"], data["handlerId"], body)
    raise FramingError("a library sends no such message", kind=kind)


def has_its_body(request: Request) -> bool:
    """Whether the request has a body, if its method needs one."""
    return REQUEST_BODIES.get(request.method) is None or request.body is not None


def encode_accepted(id_: int, method: str, body: Mapping[str, Any] | None, transport_kind: str = "") -> bytes:
    """The answer to a request that was accepted.

    Raises:
        InvalidParameters: The body does not fit the schema.
    """
    response: dict[str, Any] = {"id": id_, "accepted": True}
    member = RESPONSE_BODIES.get(method)
    if member is not None and (body or member in _MAY_BE_EMPTY):
        response["body"] = (member.format(transport_kind), body or {})
    return _ENCODER.encode(_ROOT, {"data": ("Response", response)})


def encode_refused(id_: int, error: str, reason: str) -> bytes:
    """The answer to a request that was refused."""
    return _ENCODER.encode(
        _ROOT, {"data": ("Response", {"id": id_, "accepted": False, "error": error, "reason": reason})}
    )


def encode_notification(event: str, handler: str, body: Mapping[str, Any] | None) -> bytes:
    """A notification to the library.

    Raises:
        InvalidParameters: The body does not fit the schema.
    """
    notification: dict[str, Any] = {"event": event, "handlerId": handler}
    member = NOTIFICATION_BODIES.get(event)
    if member is not None:
        # Even if it is empty, as for the layers of a consumer that has none: libraries read it without a check.
        notification["body"] = (member, body or {})
    return _ENCODER.encode(_ROOT, {"data": ("Notification", notification)})


def encode_log(line: str) -> bytes:
    """A log line; its first character is the level: D, W, E or X."""
    return _ENCODER.encode(_ROOT, {"data": ("Log", {"data": line})})
