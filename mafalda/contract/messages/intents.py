"""Intents: what clients request for a peer, on ``mafalda.room.{room}.peer.{peer}.intent.{action}``.

The client chooses the ids of transports, producers and consumers, so that a repeated intent changes nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mafalda.contract.ids import Id
from mafalda.contract.messages.batches import MAX_BATCHED, BatchedIntent
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.payload import AppData, Kind, LeaveCause, Payload, app_data
from mafalda.contract.messages.subscriptions import MAX_SELECTORS, ProducerSelector, Subscription
from mafalda.media.rtp import ConsumerLayers, MediaKind, RtpCapabilities, RtpParameters
from mafalda.media.transport import DtlsParameters, NumSctpStreams, SctpStreamParameters


class Intent(Payload):
    """What a peer wants."""

    kind: ClassVar[Kind] = "intent"


def channel() -> Any:
    """The raw worker request, if the intent comes from the drop-in."""
    return Field(
        None,
        repr=False,
        description="What the application's mediasoup library asked its worker; the worker is asked exactly this.",
    )


class Join(Intent):
    """Become a peer of the room. The only intent that needs no placement to exist already."""

    action = "join"
    app_data: AppData = app_data()
    region: Id | None = Field(None, description="Where the peer is; a policy may prefer servers near it.")
    one_transport: bool = Field(
        False, description="The peer is a single transport, as a drop-in's peers are: less is expected of it."
    )
    tenant: Id | None = Field(
        None,
        description="Of several applications on one fleet, the one that the room is of. A room is its first peer's "
        "tenant's: peers of another one, or of none, are refused.",
    )
    audience: bool = Field(
        False,
        description="The peer only receives, and is not announced one by one: the room's peers are told nothing of it, "
        "and its own events come on its peer's subject.",
    )
    beside: Id | None = Field(
        None, description="A peer of the room that belongs together with this one: placed on its worker if possible."
    )
    lease_s: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="The place is wanted ahead, before there is anything to open: what a peer is expected to cost "
        "stays reserved until it opens something. If it has requested nothing for so many seconds, or for as long as "
        "any idle peer may stay, it leaves.",
    )


class Leave(Intent):
    """Stop being a peer; everything the peer owns is closed."""

    action = "leave"
    cause: LeaveCause | None = Field(None, description="Why, if somebody else wants it; the room is told.")


class EndRoom(Intent):
    """Remove every peer that has joined the room before, or requested to. A later join opens the room again.

    On the subject of whoever wants it, who need not be in the room: of the moderator, or under any peer id. Answered by
    ``Done`` as soon as a ``leave`` with the cause ``room-ended`` is stored for each peer.
    """

    action = "end-room"


class SetAppData(Intent):
    """Replace the peer's application data. The room is told by ``PeerUpdated``. Answered by ``Done``."""

    action = "set-app-data"
    app_data: AppData = app_data()


class ApplyGrants(Intent):
    """Close what the peer's present grants do not permit: producers, data producers, subscriptions, consumers.

    The auth service publishes it when it has changed the grants. Answered by ``Done``.
    """

    action = "apply-grants"


class SetAudience(Intent):
    """Become one of the room's audience, which closes what the peer sends, or stop being one, to be able to send.

    Answered by ``Done``. The room is told as if the peer left or joined. Nothing happens if the peer is that already.
    """

    action = "set-audience"
    audience: bool


class CreateTransport(Intent):
    """Open a WebRtcTransport on the peer's worker.

    ICE and DTLS parameters come to the inbox named by the header ``Mafalda-Reply-To``; the stored
    result is the same without the ICE password.
    """

    action = "create-transport"
    transport: Id
    direction: Literal["send", "receive", "both"] = "both"
    enable_tcp: bool = True
    prefer_tcp: bool = False
    enable_sctp: bool = False
    num_sctp_streams: NumSctpStreams | None = None
    max_sctp_message_size: int = Field(262144, ge=1, le=1 << 30, description="Bytes.")
    initial_available_outgoing_bitrate: int = Field(600_000, ge=1, le=4_294_967_295, description="Bits per second.")
    rtp_capabilities: RtpCapabilities | None = Field(
        None, description="What the client can receive; kept with the transport, for subscriptions and consumes on it."
    )
    app_data: AppData = app_data()
    channel: ChannelCall | None = channel()


class ConnectTransport(Intent):
    """Give the client's DTLS parameters to a transport."""

    action = "connect-transport"
    transport: Id
    dtls_parameters: DtlsParameters


class RestartIce(Intent):
    """New ICE credentials for a transport; they come to the inbox, as at its creation."""

    action = "restart-ice"
    transport: Id


class CloseTransport(Intent):
    """Close a transport and all that it carries."""

    action = "close-transport"
    transport: Id


def _codecs_of_kind(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema that the codecs are of the producer's kind."""
    schema["allOf"] = [
        {
            "if": {"properties": {"mediaKind": {"const": kind}}},
            "then": {
                "properties": {
                    "rtpParameters": {
                        "properties": {"codecs": {"items": {"properties": {"mimeType": {"pattern": pattern}}}}}
                    }
                }
            },
        }
        for kind, pattern in (("audio", "^[aA][uU][dD][iI][oO]/"), ("video", "^[vV][iI][dD][eE][oO]/"))
    ]


class Produce(Intent):
    """Send a track into the room."""

    model_config = ConfigDict(json_schema_extra=_codecs_of_kind)

    action = "produce"
    producer: Id
    transport: Id
    media_kind: MediaKind
    rtp_parameters: RtpParameters
    paused: bool = False
    key_frame_request_delay_ms: int | None = Field(None, ge=0, le=60_000, description="Milliseconds; None: at once.")
    report_layers: bool = Field(
        False, description="Of a video: tell with `producer-layers-changed` which layers anybody receives."
    )
    app_data: AppData = app_data()
    channel: ChannelCall | None = channel()

    @field_validator("rtp_parameters")
    @classmethod
    def _codecs_fit(cls, value: RtpParameters, info: ValidationInfo) -> RtpParameters:
        kind = info.data.get("media_kind")
        wrong = [number for number, codec in enumerate(value.codecs) if kind and codec.media_kind != kind]
        if wrong:
            problem = PydanticCustomError("media_kind", f"not a codec of mediaKind {kind}")
            raise ValidationError.from_exception_data(
                cls.__name__,
                [InitErrorDetails(type=problem, loc=("codecs", number, "mimeType"), input=None) for number in wrong],
            )
        return value


class ProduceData(Intent):
    """Send data messages into the room."""

    action = "produce-data"
    data_producer: Id
    transport: Id
    sctp_stream_parameters: SctpStreamParameters
    label: str = Field("", max_length=256)
    protocol: str = Field("", max_length=256)
    app_data: AppData = app_data()
    channel: ChannelCall | None = channel()


class Consume(Intent):
    """Receive a producer of the room, wherever it is."""

    action = "consume"
    consumer: Id
    transport: Id
    producer: Id
    rtp_capabilities: RtpCapabilities = Field(
        description="What the client can receive, kept with the transport; `{}`: those that the transport has already."
    )
    paused: bool = Field(True, description="mediasoup's advice: start paused, resume when the client is ready.")
    preferred_layers: ConsumerLayers | None = None
    app_data: AppData = app_data()
    channel: ChannelCall | None = channel()


class ConsumeData(Intent):
    """Receive a data producer of the room, wherever it is."""

    action = "consume-data"
    data_consumer: Id
    transport: Id
    data_producer: Id
    app_data: AppData = app_data()
    channel: ChannelCall | None = channel()


class PauseProducer(Intent):
    """Send nothing for a while; consumers are notified. Answered by ``Done``."""

    action = "pause-producer"
    producer: Id
    by: Id | None = Field(None, description="The peer that wants it, if not the owner: a moderator. The room is told.")


class ResumeProducer(Intent):
    """Send again after a pause. Answered by ``Done``."""

    action = "resume-producer"
    producer: Id


class CloseProducer(Intent):
    """End a producer and all its consumers. Answered by ``Done``."""

    action = "close-producer"
    producer: Id


class CloseDataProducer(Intent):
    """End a data producer and all its data consumers. Answered by ``Done``."""

    action = "close-data-producer"
    data_producer: Id


class PauseConsumer(Intent):
    """Receive nothing of a producer for a while. Answered by ``Done``."""

    action = "pause-consumer"
    consumer: Id


class ResumeConsumer(Intent):
    """Receive a producer, at first or again. Answered by ``Done``."""

    action = "resume-consumer"
    consumer: Id


class CloseConsumer(Intent):
    """Receive a producer no more. Answered by ``Done``."""

    action = "close-consumer"
    consumer: Id


class CloseDataConsumer(Intent):
    """Receive a data producer no more. Answered by ``Done``."""

    action = "close-data-consumer"
    data_consumer: Id


class SetPreferredLayers(Intent):
    """Choose the highest simulcast or SVC layers that a consumer should get."""

    action = "set-preferred-layers"
    consumer: Id
    spatial_layer: int = Field(ge=0, le=15)
    temporal_layer: int | None = Field(None, ge=0, le=15)


class SetPriority(Intent):
    """Who gets bitrate first, among the consumers of one transport."""

    action = "set-priority"
    consumer: Id
    priority: int = Field(ge=1, le=255)


class RequestKeyFrame(Intent):
    """Ask a video consumer's producer for a key frame. Answered by ``Done``."""

    action = "request-key-frame"
    consumer: Id


class Subscribe(Intent, Subscription):
    """Receive every producer that the subscription selects, those that are there and those that come.

    The peer's agent makes the consumers as soon as there is a transport for them, and says so in batches
    (``ConsumersOpened``). A subscription lasts until ``unsubscribe`` or ``leave``, also at the peer's next place. With
    the id of an earlier one it replaces that; consumers that it still wants stay as they are. All subscriptions of a
    peer have at most 1024 selectors; each further subscription counts as one.
    """

    action = "subscribe"
    rtp_capabilities: RtpCapabilities | None = Field(
        None, description="What the client can receive; kept with the transport. Absent: those that it has already."
    )


class ChangeSubscription(Intent):
    """Receive more of the room, or less, by a subscription that stands. Answered as ``subscribe``."""

    action = "change-subscription"
    subscription: Id
    add: list[ProducerSelector] = Field(
        default_factory=list, max_length=MAX_SELECTORS, description="Received from now on."
    )
    remove: list[ProducerSelector] = Field(
        default_factory=list,
        max_length=MAX_SELECTORS,
        description="Not received any more.",
    )


class Unsubscribe(Intent):
    """End a subscription and all its consumers. Answered by ``Done``."""

    action = "unsubscribe"
    subscription: Id


class RequestChannel(Intent):
    """Whatever else an application that speaks the worker's channel asks of its peer's objects."""

    action = "channel"
    call: ChannelCall


class IntentBatch(Intent):
    """Several intents in one message: done in order, each for itself, answered by ``ResultBatch``.

    ``join``, ``leave``, ``end-room`` and ``apply-grants`` are never in one. An intent that is answered later than the
    others, such as a consume that waits for a relay, has a result message of its own. A batch that is refused as a
    whole (``rejected``, whose ``causationid`` is the batch's id) is refused for each intent that is in it.
    """

    action = "batch"
    items: list[BatchedIntent] = Field(min_length=1, max_length=MAX_BATCHED)


INTENTS: tuple[type[Intent], ...] = (
    Join,
    Leave,
    EndRoom,
    SetAudience,
    SetAppData,
    ApplyGrants,
    CreateTransport,
    ConnectTransport,
    RestartIce,
    CloseTransport,
    Produce,
    ProduceData,
    Consume,
    ConsumeData,
    PauseProducer,
    ResumeProducer,
    CloseProducer,
    CloseDataProducer,
    PauseConsumer,
    ResumeConsumer,
    CloseConsumer,
    CloseDataConsumer,
    SetPreferredLayers,
    SetPriority,
    RequestKeyFrame,
    Subscribe,
    ChangeSubscription,
    Unsubscribe,
    RequestChannel,
    IntentBatch,
)

#: Intents about the peer or its subscriptions, which outlast its places; the others are about objects of one place.
ABOUT_THE_PEER = (ApplyGrants, ChangeSubscription, Leave, SetAppData, SetAudience, Subscribe, Unsubscribe)
