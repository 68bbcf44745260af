"""What each intent and query leads to: its answer, the events that follow, the errors that it may be refused with.

``docs/protocol.md`` is generated from this table. It is a promise to clients in any language: a test with a real fleet
checks that each message which follows an intent is listed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.messages import events, intents, queries, results
from mafalda.contract.messages.payload import Payload
from mafalda.errors import (
    AlreadyExists,
    AudienceCannotProduce,
    BadInput,
    BusUnavailable,
    CannotConsume,
    DeadlineExceeded,
    IllegalId,
    IllegalReplySubject,
    InvalidParameters,
    LogFull,
    LogTruncated,
    MafaldaError,
    MalformedMessage,
    MessageTooLarge,
    NoCapacity,
    NotFound,
    NotGranted,
    NotJoined,
    RateLimited,
    Refused,
    RelayUnavailable,
    StaleGeneration,
    TooManyConsumers,
    TooManyPeers,
    TooManyProducers,
    TooManyTransports,
    UnknownType,
    UnknownVersion,
    UnsupportedError,
    WorkerExited,
    WorkerRequestFailed,
)

Errors = tuple[type[MafaldaError], ...]

#: Any message may be refused with these, before it is known what it asks for.
READING_ERRORS: Errors = (IllegalId, MalformedMessage, MessageTooLarge, UnknownType, UnknownVersion)
#: Any intent of a peer but ``join`` may be refused with these.
PLACE_ERRORS: Errors = (NotJoined, WorkerExited, StaleGeneration, BadInput, NoCapacity, RateLimited)
#: What the worker is asked may fail with these.
WORKER_ERRORS: Errors = (WorkerExited, WorkerRequestFailed, DeadlineExceeded)

_OBJECT_ERRORS: Errors = (NotFound, *WORKER_ERRORS)
_QUERY_ERRORS: Errors = (RateLimited, *_OBJECT_ERRORS)
_PRODUCING_ERRORS: Errors = (
    AlreadyExists,
    AudienceCannotProduce,
    TooManyProducers,
    InvalidParameters,
    UnsupportedError,
    *_OBJECT_ERRORS,
)
_OPENING_ERRORS: Errors = (AlreadyExists, InvalidParameters, UnsupportedError, *_OBJECT_ERRORS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an intent or a query leads to.

    Args:
        answer: The message that answers it when it is done.
        private: Whether the whole answer, with its secrets, goes to the sender's inbox alone.
        room_events: Events for everyone in the room that may follow.
        peer_events: Events for other peers, or for this one, each on its own subject, that may follow.
        errors: What it may be refused with, beside ``READING_ERRORS`` and ``PLACE_ERRORS``.
    """

    answer: type[Payload]
    private: bool = False
    room_events: tuple[type[events.Event], ...] = ()
    peer_events: tuple[type[events.Event], ...] = ()
    errors: Errors = _OBJECT_ERRORS


_CLOSED = (events.ProducerClosed, events.DataProducerClosed)
_CONSUMERS_CLOSED = (events.ConsumerClosed, events.DataConsumerClosed)
_SUBSCRIBED = (events.ConsumersOpened, events.ConsumersClosed)
_SUBSCRIBING_ERRORS: Errors = (InvalidParameters, BadInput)
_DONE = Outcome(results.Done)

OUTCOMES: dict[type[Payload], Outcome] = {
    intents.Join: Outcome(
        results.JoinResult,
        room_events=(events.PeerJoined,),
        peer_events=(events.PeerJoined,),
        errors=(AlreadyExists, NoCapacity, TooManyPeers, NotGranted, LogFull),
    ),
    intents.Leave: Outcome(
        results.Done,
        room_events=(*_CLOSED, events.PeerLeft),
        peer_events=(*_CONSUMERS_CLOSED, events.PeerLeft),
        errors=WORKER_ERRORS,
    ),
    intents.EndRoom: Outcome(
        results.Done,
        room_events=(*_CLOSED, events.PeerLeft),
        peer_events=(*_CONSUMERS_CLOSED, events.PeerLeft),
        errors=(),
    ),
    intents.SetAppData: Outcome(
        results.Done, room_events=(events.PeerUpdated,), peer_events=(events.PeerUpdated,), errors=()
    ),
    intents.ApplyGrants: Outcome(
        results.Done,
        room_events=(*_CLOSED, events.RelayClosed),
        peer_events=(*_CLOSED, *_CONSUMERS_CLOSED, events.ConsumersClosed),
        errors=(BusUnavailable, NotGranted, *_OBJECT_ERRORS),
    ),
    intents.SetAudience: Outcome(
        results.Done, room_events=(*_CLOSED, events.PeerJoined, events.PeerDemoted), peer_events=_CONSUMERS_CLOSED
    ),
    intents.CreateTransport: Outcome(
        results.TransportResult, private=True, errors=(AlreadyExists, TooManyTransports, *WORKER_ERRORS)
    ),
    intents.ConnectTransport: Outcome(
        results.Done, peer_events=(events.TransportClosed,), errors=(InvalidParameters, *_OBJECT_ERRORS)
    ),
    intents.RestartIce: Outcome(results.TransportResult, private=True),
    intents.CloseTransport: Outcome(results.Done, room_events=_CLOSED, peer_events=_CONSUMERS_CLOSED),
    intents.Produce: Outcome(
        results.ProduceResult, room_events=(events.ProducerOpened,), errors=(NotGranted, *_PRODUCING_ERRORS)
    ),
    intents.ProduceData: Outcome(
        results.ProduceDataResult, room_events=(events.DataProducerOpened,), errors=_PRODUCING_ERRORS
    ),
    intents.Consume: Outcome(
        results.ConsumeResult,
        room_events=(events.RelayOpened, events.RelayFailed),
        errors=(CannotConsume, NotGranted, TooManyConsumers, RelayUnavailable, *_OPENING_ERRORS),
    ),
    intents.ConsumeData: Outcome(
        results.ConsumeDataResult,
        room_events=(events.RelayOpened, events.RelayFailed),
        errors=(NotGranted, TooManyConsumers, RelayUnavailable, *_OPENING_ERRORS),
    ),
    intents.PauseProducer: Outcome(results.Done, room_events=(events.ProducerPaused,)),
    intents.ResumeProducer: Outcome(results.Done, room_events=(events.ProducerResumed,)),
    intents.CloseProducer: Outcome(
        results.Done, room_events=(events.ProducerClosed, events.RelayClosed), peer_events=(events.ConsumerClosed,)
    ),
    intents.CloseDataProducer: Outcome(
        results.Done,
        room_events=(events.DataProducerClosed, events.RelayClosed),
        peer_events=(events.DataConsumerClosed,),
    ),
    intents.PauseConsumer: _DONE,
    intents.ResumeConsumer: _DONE,
    intents.CloseConsumer: Outcome(results.Done, errors=(Refused, *_OBJECT_ERRORS)),
    intents.CloseDataConsumer: Outcome(results.Done, errors=(Refused, *_OBJECT_ERRORS)),
    intents.SetPreferredLayers: Outcome(results.Done, errors=(InvalidParameters, *_OBJECT_ERRORS)),
    intents.SetPriority: _DONE,
    intents.RequestKeyFrame: _DONE,
    intents.Subscribe: Outcome(results.SubscribeResult, peer_events=_SUBSCRIBED, errors=_SUBSCRIBING_ERRORS),
    intents.ChangeSubscription: Outcome(results.SubscribeResult, peer_events=_SUBSCRIBED, errors=(NotFound, BadInput)),
    intents.Unsubscribe: Outcome(results.Done, errors=_OBJECT_ERRORS),
    intents.RequestChannel: Outcome(results.ChannelAnswer, private=True, errors=(InvalidParameters, *_OBJECT_ERRORS)),
    intents.IntentBatch: Outcome(results.ResultBatch, private=True, errors=()),
    queries.QueryRoom: Outcome(queries.RoomSnapshot, private=True, errors=(RateLimited, BusUnavailable)),
    queries.QueryTransport: Outcome(results.TransportResult, private=True, errors=_QUERY_ERRORS),
    queries.QuerySubscription: Outcome(queries.SubscriptionSnapshot, private=True, errors=(RateLimited, NotFound)),
    queries.QueryEntries: Outcome(queries.LogEntries, private=True, errors=(RateLimited, BusUnavailable, LogTruncated)),
    queries.QueryStats: Outcome(queries.Stats, private=True, errors=_QUERY_ERRORS),
    queries.ReportStatistics: Outcome(
        queries.StatisticsTaken,
        private=True,
        peer_events=(events.StatisticsReported,),
        errors=(RateLimited, StaleGeneration),
    ),
    queries.QueryScores: Outcome(queries.Scores, private=True, errors=(RateLimited,)),
    queries.QuerySpeakers: Outcome(queries.Speakers, private=True, errors=(RateLimited, IllegalReplySubject)),
    queries.QueryChannel: Outcome(results.ChannelAnswer, private=True, errors=(InvalidParameters, *_QUERY_ERRORS)),
}
