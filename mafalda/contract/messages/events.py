"""Events: facts, named in the past tense, for three audiences.

Room events are for everyone in the room (``mafalda.room.{room}.event.*``), peer events for one peer
(``…peer.{peer}.event.*``), server events for the fleet (``mafalda.server.{server}.event.*``). What a peer's own intents
did to its own objects is in their results instead. That a peer of the audience has joined, moved or left is a peer
event; of any other peer it is a room event.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.commands import PlacementCause
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import AppData, Kind, LeaveCause, Payload, Place, app_data
from mafalda.contract.messages.statistics import WayStatistics
from mafalda.contract.messages.subscriptions import ConsumeFailure, ConsumerFormat, SubscribedConsumer
from mafalda.media.model import Model
from mafalda.media.rtp import MediaKind, ProducerType
from mafalda.media.transport import SctpStreamParameters

ClosedReason = Literal["closed", "transport-closed", "producer-closed", "peer-left", "peer-moved", "worker-died"]


class Event(Payload):
    """A fact."""

    kind: ClassVar[Kind] = "event"


# --- rooms ---------------------------------------------------------------------------------------


class PeerJoined(Event):
    """A peer is in the room, on its first place; or it is no longer of the room's audience."""

    action = "peer-joined"
    peer: Id
    server: Id
    worker: Id
    generation: int
    app_data: AppData = app_data()
    audience: bool = Field(False, description="As in the join; then it is a peer event, not a room event.")


class PeerMoved(Event):
    """The peer has a new place; everything that it had on the old one is gone or about to go. Its client reconnects."""

    action = "peer-moved"
    peer: Id
    server: Id
    worker: Id
    generation: int
    cause: PlacementCause
    handover: bool = Field(False, description="As in the command: the former place goes on forwarding for a while.")


class PeerStranded(Event):
    """The peer's place is gone and there is no other now; it is placed as soon as there is one."""

    action = "peer-stranded"
    peer: Id
    generation: int
    error: ErrorInfo


#: Why a peer is not in a room any more.
LeftReason = Literal["left", "timed-out", "evicted"]


class PeerLeft(Event):
    """A peer is not in the room any more, and nothing of it is."""

    action = "peer-left"
    peer: Id
    generation: int
    reason: LeftReason = "left"
    cause: LeaveCause | None = Field(
        None, description="With the reason `left`: why, if it was not the peer itself that wanted it; as in the leave."
    )


class PeerDemoted(Event):
    """A peer is of the room's audience from now on: it sends nothing, and the room is not told of it any more."""

    action = "peer-demoted"
    peer: Id
    generation: int


class PeerUpdated(Event):
    """A peer has other application data; of a peer of the audience the room is not told."""

    action = "peer-updated"
    peer: Id
    generation: int
    app_data: AppData = app_data()


class ProducerOpened(Event):
    """A track can be consumed."""

    action = "producer-opened"
    peer: Id
    producer: Id
    transport: Id
    server: Id
    worker: Id
    generation: int
    media_kind: MediaKind
    type: ProducerType
    paused: bool = False
    app_data: AppData = app_data()


class ProducerPaused(Event):
    """A producer sends nothing for a while."""

    action = "producer-paused"
    peer: Id
    producer: Id
    by: Id | None = Field(None, description="The peer that muted it, if not its owner; as in the intent.")


class ProducerResumed(Event):
    """A producer sends again."""

    action = "producer-resumed"
    peer: Id
    producer: Id


class ProducerClosed(Event):
    """A producer ended, and all its consumers with it."""

    action = "producer-closed"
    peer: Id
    producer: Id
    generation: int
    reason: ClosedReason
    error: ErrorInfo | None = Field(
        None,
        description="For its own peer alone, as a peer event: why it was closed although the peer did not ask for it.",
    )


class DataProducerOpened(Event):
    """Data messages can be consumed."""

    action = "data-producer-opened"
    peer: Id
    data_producer: Id
    transport: Id
    server: Id
    worker: Id
    generation: int
    sctp_stream_parameters: SctpStreamParameters
    label: str = ""
    protocol: str = ""
    app_data: AppData = app_data()


class DataProducerClosed(Event):
    """A data producer ended, and all its data consumers with it."""

    action = "data-producer-closed"
    peer: Id
    data_producer: Id
    generation: int
    reason: ClosedReason
    error: ErrorInfo | None = Field(
        None,
        description="For its own peer alone, as a peer event: why it was closed although the peer did not ask for it.",
    )


class RelayOpened(Event):
    """A producer can now be consumed on the target worker, under its own id."""

    action = "relay-opened"
    producer: Id
    data: bool
    source: Place
    target: Place


class RelayFailed(Event):
    """A relay could not be opened; the consumes that waited for it are rejected."""

    action = "relay-failed"
    producer: Id
    data: bool
    source: Place
    target: Place
    error: ErrorInfo


class RelayClosed(Event):
    """A producer is not relayed to the target worker any more; what consumed it there ended."""

    action = "relay-closed"
    producer: Id
    data: bool
    source: Place
    target: Place
    reason: Literal["producer-closed", "unused", "source-died", "target-died", "failed"]


# --- peers ---------------------------------------------------------------------------------------


class TransportClosed(Event):
    """A transport ended without its client asking: ICE or DTLS failed for good."""

    action = "transport-closed"
    transport: Id
    generation: int
    reason: Literal["ice-failed", "dtls-failed", "dtls-closed", "timed-out"]


class ConsumerClosed(Event):
    """A consumer ended without its client asking."""

    action = "consumer-closed"
    consumer: Id
    producer: Id
    generation: int
    reason: ClosedReason


class DataConsumerClosed(Event):
    """A data consumer ended without its client asking."""

    action = "data-consumer-closed"
    data_consumer: Id
    data_producer: Id
    generation: int
    reason: ClosedReason


class ProducerLayersChanged(Event):
    """The highest spatial layer of a producer that anybody receives is another one; its client may send no more.

    Published if ``produce`` asks for it. A new producer begins with all its layers.
    """

    action = "producer-layers-changed"
    producer: Id
    generation: int
    spatial_layer: int | None = Field(None, ge=0, le=15, description="Absent: nobody receives the producer.")


class ConsumersOpened(Event):
    """Consumers were made for a subscription, or could not be made.

    A producer has one consumer in a subscription: the one that was named last. A consumer ends with its producer, or
    the transport, and nothing more is said of it.
    """

    action = "consumers-opened"
    subscription: Id
    transport: Id
    generation: int
    consumers: list[SubscribedConsumer]
    formats: list[ConsumerFormat] = Field(
        default_factory=list, description="Those that no earlier one of this subscription and place has."
    )
    failed: list[ConsumeFailure] = Field(
        default_factory=list, description="Producers that cannot be consumed; tried again when they are opened again."
    )


class ConsumersClosed(Event):
    """Consumers of a subscription ended, because it does not want their producers any more."""

    action = "consumers-closed"
    subscription: Id
    generation: int
    consumers: list[Id]


class StatisticsReported(Event):
    """What a peer's client measured, with what its worker knew at that time.

    Appended if the client reports statistics: when they differ much from those before, and at intervals.
    """

    action = "statistics-reported"
    generation: int
    server: Id
    worker: Id
    interval_s: float = Field(gt=0, description="Over which it was measured.")
    ways: list[WayStatistics]
    cause: Literal["interval", "changed"]
    scores: dict[Id, int] = Field(
        default_factory=dict, description="0 to 10, of what the peer sends as it arrives at the worker, by producer."
    )
    layers: dict[Id, int] = Field(
        default_factory=dict, description="The spatial layers of what the worker sends to the peer, by producer."
    )


# --- servers -------------------------------------------------------------------------------------


class WorkerInfo(Model):
    """One mediasoup-worker process. Its id is never used again after its death."""

    worker: Id
    pid: int
    slot: int


class ServerStarted(Event):
    """An agent began. What an earlier incarnation of it had is gone."""

    action = "server-started"
    server: Id
    incarnation: Id
    workers: list[WorkerInfo]
    announced_address: str
    region: Id | None = None
    agent_version: str = ""


class ServerStopped(Event):
    """An agent ended on purpose; its peers are to be placed elsewhere."""

    action = "server-stopped"
    server: Id
    incarnation: Id


class ServerDraining(Event):
    """The server is ineligible for placements and its peers are moved (``draining``), or it is eligible again."""

    action = "server-draining"
    server: Id
    incarnation: Id
    draining: bool
    deadline_s: float | None = Field(
        None, ge=0, description="Seconds from this event until what is left is moved by force; None: never."
    )
    force: bool = Field(False, description="The deadline has passed: peers are moved that had to stay until then.")


class ServerLost(Event):
    """An allocator saw no load report of this incarnation for three intervals."""

    action = "server-lost"
    server: Id
    incarnation: Id


class WorkerStarted(Event):
    """A worker process runs and can be given peers."""

    action = "worker-started"
    server: Id
    incarnation: Id
    worker: WorkerInfo


class WorkerDied(Event):
    """A worker process ended unasked; everything on it is gone."""

    action = "worker-died"
    server: Id
    incarnation: Id
    worker: Id
    exit_code: int | None = Field(None, description="Absent if a signal ended it.")
    signal: str | None = None


class RelaysRequested(Event):
    """Subscriptions of peers on a worker want producers that are on other workers."""

    action = "relays-requested"
    server: Id
    incarnation: Id
    worker: Id
    room: Id
    producers: list[Id]


class LoadSampled(Event):
    """A load report kept in the log, so that a replay can decide again."""

    action = "load-sampled"
    load: ServerLoad


#: That a peer is in a room, and where. On the subject of ``channels.membership_subject``.
MEMBERSHIP_EVENTS: tuple[type[Event], ...] = (PeerJoined, PeerMoved, PeerStranded, PeerUpdated, PeerLeft)
ROOM_EVENTS: tuple[type[Event], ...] = (
    *MEMBERSHIP_EVENTS,
    PeerDemoted,
    ProducerOpened,
    ProducerPaused,
    ProducerResumed,
    ProducerClosed,
    DataProducerOpened,
    DataProducerClosed,
    RelayOpened,
    RelayFailed,
    RelayClosed,
)
PEER_EVENTS: tuple[type[Event], ...] = (
    *MEMBERSHIP_EVENTS,
    TransportClosed,
    ConsumerClosed,
    DataConsumerClosed,
    ProducerClosed,
    DataProducerClosed,
    ProducerLayersChanged,
    ConsumersOpened,
    ConsumersClosed,
    StatisticsReported,
)
SERVER_EVENTS: tuple[type[Event], ...] = (
    ServerStarted,
    ServerStopped,
    ServerDraining,
    ServerLost,
    WorkerStarted,
    WorkerDied,
    RelaysRequested,
    LoadSampled,
)
EVENTS = tuple(dict.fromkeys(ROOM_EVENTS + PEER_EVENTS + SERVER_EVENTS))
