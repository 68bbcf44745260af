"""The library's side of the channel: it encodes requests and notifications, and decodes what the worker sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.fbs import schema as generated

MEDIASOUP_VERSION: str = generated.VERSION
SCHEMA = Schema(generated.TABLES, generated.ENUMS, generated.UNIONS)
_ENCODER = Encoder(SCHEMA)
_DECODER = Decoder(SCHEMA)
_ROOT = "FBS.Message.Message"

# The body of each request method; the worker crashes without it. None: no body.
REQUEST_BODIES: Mapping[str, str | None] = {
    "WORKER_DUMP": None,
    "WORKER_GET_RESOURCE_USAGE": None,
    "WORKER_UPDATE_SETTINGS": "Worker_UpdateSettingsRequest",
    "WORKER_CREATE_WEBRTCSERVER": "Worker_CreateWebRtcServerRequest",
    "WORKER_CREATE_ROUTER": "Worker_CreateRouterRequest",
    "WORKER_WEBRTCSERVER_CLOSE": "Worker_CloseWebRtcServerRequest",
    "WORKER_CLOSE_ROUTER": "Worker_CloseRouterRequest",
    "WEBRTCSERVER_DUMP": None,
    "ROUTER_DUMP": None,
    "ROUTER_CREATE_WEBRTCTRANSPORT": "Router_CreateWebRtcTransportRequest",
    "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER": "Router_CreateWebRtcTransportRequest",
    "ROUTER_CREATE_PLAINTRANSPORT": "Router_CreatePlainTransportRequest",
    "ROUTER_CREATE_PIPETRANSPORT": "Router_CreatePipeTransportRequest",
    "ROUTER_CREATE_DIRECTTRANSPORT": "Router_CreateDirectTransportRequest",
    "ROUTER_CLOSE_TRANSPORT": "Router_CloseTransportRequest",
    "ROUTER_CREATE_ACTIVESPEAKEROBSERVER": "Router_CreateActiveSpeakerObserverRequest",
    "ROUTER_CREATE_AUDIOLEVELOBSERVER": "Router_CreateAudioLevelObserverRequest",
    "ROUTER_CLOSE_RTPOBSERVER": "Router_CloseRtpObserverRequest",
    "TRANSPORT_DUMP": None,
    "TRANSPORT_GET_STATS": None,
    "TRANSPORT_CONNECT": None,
    "TRANSPORT_SET_MAX_INCOMING_BITRATE": "Transport_SetMaxIncomingBitrateRequest",
    "TRANSPORT_SET_MAX_OUTGOING_BITRATE": "Transport_SetMaxOutgoingBitrateRequest",
    "TRANSPORT_SET_MIN_OUTGOING_BITRATE": "Transport_SetMinOutgoingBitrateRequest",
    "TRANSPORT_RESTART_ICE": None,
    "TRANSPORT_PRODUCE": "Transport_ProduceRequest",
    "TRANSPORT_PRODUCE_DATA": "Transport_ProduceDataRequest",
    "TRANSPORT_CONSUME": "Transport_ConsumeRequest",
    "TRANSPORT_CONSUME_DATA": "Transport_ConsumeDataRequest",
    "TRANSPORT_ENABLE_TRACE_EVENT": "Transport_EnableTraceEventRequest",
    "TRANSPORT_CLOSE_PRODUCER": "Transport_CloseProducerRequest",
    "TRANSPORT_CLOSE_CONSUMER": "Transport_CloseConsumerRequest",
    "TRANSPORT_CLOSE_DATAPRODUCER": "Transport_CloseDataProducerRequest",
    "TRANSPORT_CLOSE_DATACONSUMER": "Transport_CloseDataConsumerRequest",
    "PLAINTRANSPORT_CONNECT": "PlainTransport_ConnectRequest",
    "PIPETRANSPORT_CONNECT": "PipeTransport_ConnectRequest",
    "WEBRTCTRANSPORT_CONNECT": "WebRtcTransport_ConnectRequest",
    "PRODUCER_DUMP": None,
    "PRODUCER_GET_STATS": None,
    "PRODUCER_PAUSE": None,
    "PRODUCER_RESUME": None,
    "PRODUCER_ENABLE_TRACE_EVENT": "Producer_EnableTraceEventRequest",
    "CONSUMER_DUMP": None,
    "CONSUMER_GET_STATS": None,
    "CONSUMER_PAUSE": None,
    "CONSUMER_RESUME": None,
    "CONSUMER_SET_PREFERRED_LAYERS": "Consumer_SetPreferredLayersRequest",
    "CONSUMER_SET_PRIORITY": "Consumer_SetPriorityRequest",
    "CONSUMER_REQUEST_KEY_FRAME": None,
    "CONSUMER_ENABLE_TRACE_EVENT": "Consumer_EnableTraceEventRequest",
    "DATAPRODUCER_DUMP": None,
    "DATAPRODUCER_GET_STATS": None,
    "DATAPRODUCER_PAUSE": None,
    "DATAPRODUCER_RESUME": None,
    "DATACONSUMER_DUMP": None,
    "DATACONSUMER_GET_STATS": None,
    "DATACONSUMER_PAUSE": None,
    "DATACONSUMER_RESUME": None,
    "DATACONSUMER_GET_BUFFERED_AMOUNT": None,
    "DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD": "DataConsumer_SetBufferedAmountLowThresholdRequest",
    "DATACONSUMER_SEND": "DataConsumer_SendRequest",
    "DATACONSUMER_SET_SUBCHANNELS": "DataConsumer_SetSubchannelsRequest",
    "DATACONSUMER_ADD_SUBCHANNEL": "DataConsumer_AddSubchannelRequest",
    "DATACONSUMER_REMOVE_SUBCHANNEL": "DataConsumer_RemoveSubchannelRequest",
    "RTPOBSERVER_PAUSE": None,
    "RTPOBSERVER_RESUME": None,
    "RTPOBSERVER_ADD_PRODUCER": "RtpObserver_AddProducerRequest",
    "RTPOBSERVER_REMOVE_PRODUCER": "RtpObserver_RemoveProducerRequest",
}

# The body of each notification to the worker; it answers none of them.
NOTIFICATION_BODIES: Mapping[str, str | None] = {
    "WORKER_CLOSE": None,
    "TRANSPORT_SEND_RTCP": "Transport_SendRtcpNotification",
    "PRODUCER_SEND": "Producer_SendNotification",
    "DATAPRODUCER_SEND": "DataProducer_SendNotification",
}


class Response(NamedTuple):
    """An answer of the worker; ``error`` is None if it accepted the request."""

    id: int
    accepted: bool
    body: dict[str, Any]
    error: str | None
    reason: str | None


class Notification(NamedTuple):
    """A notification of the worker."""

    handler_id: str
    event: str
    body: dict[str, Any]


class Log(NamedTuple):
    """A log line of the worker; the first character is its level (D, W, E, X)."""

    data: str


class Other(NamedTuple):
    """A message that a worker never sends, such as a request."""

    kind: str


def encode_request(id_: int, method: str, handler_id: str, body: Mapping[str, Any] | None) -> bytes:
    """A request, without its length prefix.

    Raises:
        InvalidParameters: The body does not fit the schema.
    """
    request: dict[str, Any] = {"id": id_, "method": method, "handlerId": handler_id}
    member = REQUEST_BODIES[method]
    if member is not None:
        request["body"] = (member, body if body is not None else {})
    return _ENCODER.encode(_ROOT, {"data": ("Request", request)})


def encode_notification(event: str, handler_id: str, body: Mapping[str, Any] | None) -> bytes:
    """A notification to the worker, without its length prefix."""
    notification: dict[str, Any] = {"event": event, "handlerId": handler_id}
    member = NOTIFICATION_BODIES[event]
    if member is not None:
        notification["body"] = (member, body if body is not None else {})
    return _ENCODER.encode(_ROOT, {"data": ("Notification", notification)})


def decode(payload: bytes) -> Response | Notification | Log | Other:
    """A message from the worker.

    Raises:
        FramingError: It is not a message.
    """
    kind, data = _DECODER.decode(_ROOT, payload).get("data", ("nothing", {}))
    if kind == "Response":
        body = data.get("body", ("", {}))[1]
        return Response(data["id"], data["accepted"], body, data.get("error"), data.get("reason"))
    if kind == "Notification":
        return Notification(data["handlerId"], data["event"], data.get("body", ("", {}))[1])
    if kind == "Log":
        return Log(data["data"])
    return Other(kind)
