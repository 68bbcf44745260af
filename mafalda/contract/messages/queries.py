"""Queries of peers and requests of agents and operators: they change no room and are never stored.

A peer publishes queries to its agent on ``…peer.{peer}.query.{action}``; agents (for relays) and operators publish
requests to an agent on ``mafalda.server.{server}.request.{action}``. The reply goes to the requester's inbox: the
answer payload or ``Rejected``. These messages may hold secrets.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.payload import AppData, Kind, Payload, Place, app_data
from mafalda.contract.messages.statistics import WayStatistics
from mafalda.contract.messages.subscriptions import ConsumerFormat, SubscribedConsumer
from mafalda.media.model import Model
from mafalda.media.rtp import MediaKind, ProducerType, RtpMapping, RtpParameters
from mafalda.media.transport import SctpStreamParameters, SrtpParameters

#: ``up``: not draining; ``forcing``: draining, and the deadline has passed.
DrainPhase = Literal["up", "draining", "forcing", "drained"]


class Query(Payload):
    """What a peer asks its agent."""

    kind: ClassVar[Kind] = "query"


class Request(Payload):
    """What agents and operators ask an agent."""

    kind: ClassVar[Kind] = "request"


class Answer(Payload):
    """What is answered to a query or a request."""

    kind: ClassVar[Kind] = "answer"


# --- a peer asks its agent -----------------------------------------------------------------------


class QueryRoom(Query):
    """The room's peers and producers. A large room comes in pages."""

    action = "room"
    after: str | None = Field(None, max_length=80, description="Where the page before ended (its ``next``).")
    audience: bool = Field(False, description="The peers of the audience, instead of the other peers and producers.")


class QueryTransport(Query):
    """A transport's parameters again, with its ICE password; answered by ``TransportResult``."""

    action = "transport"
    transport: Id


class QuerySubscription(Query):
    """The consumers of a subscription as they are now, for a client that may have missed events."""

    action = "subscription"
    subscription: Id


class QueryEntries(Query):
    """The log entries for the peer after a sequence, for a client that may have missed some.

    Its results, its peer events and, if it may see the roster, the room's events, in log order. Any agent answers, also
    for a peer that has no place (any more).
    """

    action = "entries"
    after: int = Field(ge=0, le=1 << 53, description="A log sequence: of the last entry that the client knows.")


class QueryStats(Query):
    """mediasoup's own statistics of one object of the asker's."""

    action = "stats"
    target: Literal["transport", "producer", "consumer", "data-producer", "data-consumer"]
    id: Id


class ReportStatistics(Query):
    """What the client measured since its last report; answered by ``StatisticsTaken``.

    The agent keeps the last report of each peer, and appends ``StatisticsReported`` when it differs much from the one
    that was appended before, and at intervals.
    """

    action = "report-statistics"
    generation: int = Field(ge=0, description="Of the place where it was measured.")
    interval_s: float = Field(gt=0, le=600, description="Over which it was measured.")
    ways: list[WayStatistics] = Field(min_length=1, max_length=2)


class QueryScores(Query):
    """The scores of what the peer sends and receives."""

    action = "scores"


class QuerySpeakers(Query):
    """Who speaks in the room, loudest first; and for 60 s from now on, each change of that to an inbox."""

    action = "speakers"
    inbox: str = Field(max_length=256, description="Of the asker's own; ``Speakers`` come there, unasked.")


class QueryChannel(Query):
    """A request to the worker outside the log, as an application that speaks its channel put it.

    It reads, with three exceptions that must not be stored: ``PLAINTRANSPORT_CONNECT`` and ``PIPETRANSPORT_CONNECT``,
    whose bodies may hold SRTP keys, and ``DATACONSUMER_SEND``, whose body is an application's message. These are done
    in the order of the peer's intents. Answered by ``ChannelAnswer``.
    """

    action = "channel"
    call: ChannelCall


class PeerInfo(Model):
    """A peer, as the others in its room may see it."""

    peer: Id
    app_data: AppData = app_data()


class ProducerInfo(Model):
    """A producer that can be consumed."""

    producer: Id
    peer: Id
    media_kind: MediaKind
    paused: bool
    app_data: AppData = app_data()


class DataProducerInfo(Model):
    """A data producer that can be consumed."""

    data_producer: Id
    peer: Id
    label: str
    protocol: str
    app_data: AppData = app_data()


class RoomSnapshot(Answer):
    """A room without its audience, or a page of it, as of a log sequence.

    Room events with a greater sequence than the *first* page's come on top of all pages.
    """

    action = "room"
    seq: int
    peers: list[PeerInfo]
    producers: list[ProducerInfo]
    data_producers: list[DataProducerInfo]
    audience: int = Field(0, ge=0, description="How many peers are audience.")
    next: str | None = Field(None, description="There is more: ask again with this as ``after``.")


class LogEntry(Model):
    """An entry of the log: what was published under ``live.``."""

    seq: int
    subject: str = Field(description="Without ``live.``.")
    message: dict[str, Any] = Field(description="The CloudEvents envelope.")


class LogEntries(Answer):
    """Log entries, or a page of them."""

    action = "entries"
    seq: int = Field(description="All entries for the peer up to this log sequence are in this page or before it.")
    entries: list[LogEntry]
    more: bool = Field(False, description="There may be more: ask again with ``seq`` as ``after``.")


class Stats(Answer):
    """mediasoup's statistics: one object each, in mediasoup's own shape."""

    action = "stats"
    stats: list[dict[str, Any]]


class StatisticsTaken(Answer):
    """The statistics were taken."""

    action = "statistics-taken"
    interval_s: float = Field(gt=0, description="How often the agent wants them, in seconds.")


class Scores(Answer):
    """mediasoup's scores, 0 (nothing arrives) to 10 (nothing is lost), by producer; 10 is left out.

    What is paused has no score: neither a producer, nor one whose consumer is paused.
    """

    action = "scores"
    sent: dict[Id, int] = Field(description="As the peer's own producers arrive at the worker: the best encoding's.")
    received: dict[Id, int] = Field(description="As others' producers arrive at their own workers.")


class Speaker(Model):
    """A peer that speaks, by an audio producer of its own."""

    peer: Id
    producer: Id


class Speakers(Answer):
    """Who speaks in a room."""

    action = "speakers"
    room: Id
    speakers: list[Speaker] = Field(max_length=16, description="Loudest first; empty: nobody.")


# --- agents ask agents ---------------------------------------------------------------------------


class PipeEnd(Model):
    """Where one end of a pipe listens, and how to speak to it."""

    ip: str
    port: int = Field(ge=1, le=65535)
    srtp_parameters: SrtpParameters | None = Field(None, repr=False)


class ConnectPipe(Request):
    """Join our new pipe end with one of yours, for this room, between these two workers."""

    action = "connect-pipe"
    room: Id
    source: Place
    target: Place
    end: PipeEnd
    enable_rtx: bool = False


class PipeConnected(Answer):
    """The answering agent's end of the pipe, connected to the asker's."""

    action = "pipe-connected"
    end: PipeEnd


class CarryProducer(Request):
    """Send this producer over the pipe that we share."""

    action = "carry-producer"
    room: Id
    producer: Id
    data: bool
    source: Place
    target: Place


class ProducerCarried(Answer):
    """What the target must produce on its end, under the same id."""

    action = "producer-carried"
    media_kind: MediaKind | None = None
    type: ProducerType | None = None
    rtp_parameters: RtpParameters | None = None
    rtp_mapping: RtpMapping | None = Field(
        None, description="How the target must map it, if consumers count on the SSRCs that it has at its origin."
    )
    paused: bool = False
    sctp_stream_parameters: SctpStreamParameters | None = None
    label: str = ""
    protocol: str = ""
    direct: bool = Field(False, description="Its messages come one by one as notices, not over the pipe.")
    scores: list[int] = Field(default_factory=list, description="At its origin, by encoding, each from 0 to 10.")


class SetCarried(Request):
    """Nobody here wants this producer now (``paused``), somebody does again, or never more (``closed``)."""

    action = "set-carried"
    room: Id
    producer: Id
    source: Place
    target: Place
    wanted: Literal["paused", "flowing", "closed"]
    spatial_layer: int | None = Field(
        None, ge=0, le=15, description="With `flowing`: the highest layer that is needed; absent: all of them."
    )


class ClosePipe(Request):
    """The other end of this pipe is gone."""

    action = "close-pipe"
    room: Id
    source: Place
    target: Place


class SubscriptionSnapshot(Answer):
    """A subscription's consumers, as ``ConsumersOpened`` tells them; ``formats`` has all that they refer to."""

    action = "subscription"
    subscription: Id
    generation: int
    transport: Id | None = Field(None, description="Of its newest consumers; absent without any.")
    consumers: list[SubscribedConsumer]
    formats: list[ConsumerFormat]


class Ok(Answer):
    """Done, without further data."""

    action = "ok"


# --- operators ask agents ------------------------------------------------------------------------


class QueryServer(Request):
    """What do you really have? Asked of the workers, not of the log."""

    action = "inventory"


class DrainServer(Request):
    """Make this server ineligible for placements and have its peers moved, or take that back."""

    action = "drain"
    draining: bool = True
    deadline_s: float | None = Field(
        None, ge=0, description="Seconds until what is left is moved by force; None: what cannot be moved stays."
    )


class QueryDrain(Request):
    """How far is the drain?"""

    action = "drain-status"


class DrainStatus(Answer):
    """How far a server's drain is. ``drained``: no peer is placed there, and none of those moved is still served."""

    action = "drain-status"
    server: Id
    state: DrainPhase
    peers: int = Field(ge=0, description="Peers that are placed here.")
    leaving: int = Field(
        ge=0, description="Peers that have another place, and are served here until their client moved."
    )
    unmovable: int = Field(ge=0, description="Of those placed here, how many stay until the deadline (a drop-in's).")
    deadline_in_s: float | None = Field(None, description="Seconds until what is left is moved by force.")


class PeerInventory(Model):
    """What a worker holds of one peer."""

    room: Id
    peer: Id
    worker: Id
    generation: int
    transports: list[Id]
    producers: list[Id]
    consumers: list[Id]
    data_producers: list[Id]
    data_consumers: list[Id]


class RelayInventory(Model):
    """A producer that a worker holds for another worker's."""

    room: Id
    producer: Id
    data: bool
    source: Place
    target: Place


class ServerInventory(Answer):
    """What a server's workers hold, as of a log sequence that the agent has acted on."""

    action = "inventory"
    server: Id
    incarnation: Id
    seq: int
    workers: list[Id]
    peers: list[PeerInventory]
    relays: list[RelayInventory]


QUERIES: tuple[type[Payload], ...] = (
    QueryRoom,
    QueryTransport,
    QuerySubscription,
    QueryEntries,
    QueryStats,
    ReportStatistics,
    QueryScores,
    QuerySpeakers,
    QueryChannel,
)
REQUESTS: tuple[type[Payload], ...] = (
    ConnectPipe,
    CarryProducer,
    SetCarried,
    ClosePipe,
    QueryServer,
    DrainServer,
    QueryDrain,
)
ANSWERS: tuple[type[Payload], ...] = (
    RoomSnapshot,
    SubscriptionSnapshot,
    LogEntries,
    Stats,
    StatisticsTaken,
    Scores,
    Speakers,
    PipeConnected,
    ProducerCarried,
    Ok,
    ServerInventory,
    DrainStatus,
)
