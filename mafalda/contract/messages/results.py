"""Results of intents, for the intent's peer alone, on ``…peer.{peer}.result.{action}``.

An intent is answered by its own result or by ``Rejected``, on the same subject; the result's ``causationid`` is the id
of the intent. Stored results hold no secret: the ICE password goes to the inbox that the intent named.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.batches import MAX_BATCHED, BatchedResult
from mafalda.contract.messages.channel_calls import Body
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import Kind, Payload
from mafalda.contract.messages.subscriptions import Subscription
from mafalda.media.rtp import (
    ConsumerScore,
    ConsumerType,
    MediaKind,
    ProducerType,
    RtpCapabilities,
    RtpParameters,
)
from mafalda.media.transport import (
    DtlsParameters,
    IceCandidate,
    IceParameters,
    SctpParameters,
    SctpStreamParameters,
)


class Result(Payload):
    """What came of an intent."""

    kind: ClassVar[Kind] = "result"


class Rejected(Result):
    """The intent is refused. ``intent`` is its action; the error has the reason."""

    action = "rejected"
    intent: str
    error: ErrorInfo


class Done(Result):
    """The intent is done, without further data. ``target`` is the id of what the intent was about."""

    action = "done"
    intent: str
    target: Id | None = None
    generation: int


class JoinResult(Result):
    """The peer has a place. ``generation`` grows with each re-placement."""

    action = "join"
    server: Id
    worker: Id
    generation: int
    router_rtp_capabilities: RtpCapabilities
    handover: bool = Field(False, description="The former place goes on forwarding for a while; see peer-moved.")


class TransportResult(Result):
    """A WebRtcTransport as its client needs it; also the answer to ``restart-ice`` and to the query."""

    action = "transport"
    transport: Id
    generation: int
    ice_parameters: IceParameters | None = Field(None, description="Absent from the log: it holds the ICE password.")
    ice_candidates: list[IceCandidate]
    dtls_parameters: DtlsParameters
    sctp_parameters: SctpParameters | None = None

    def without_secrets(self) -> TransportResult:
        """The result as it may be stored."""
        return self.model_copy(update={"ice_parameters": None})


class ProduceResult(Result):
    """A producer is open."""

    action = "produce"
    producer: Id
    transport: Id
    generation: int
    type: ProducerType


class ProduceDataResult(Result):
    """A data producer is open."""

    action = "produce-data"
    data_producer: Id
    transport: Id
    generation: int


class ConsumeResult(Result):
    """A consumer is open; ``relayed`` if its producer is on another worker."""

    action = "consume"
    consumer: Id
    producer: Id
    transport: Id
    generation: int
    media_kind: MediaKind
    type: ConsumerType
    rtp_parameters: RtpParameters
    paused: bool
    producer_paused: bool
    relayed: bool
    score: ConsumerScore | None = None


class ConsumeDataResult(Result):
    """A data consumer is open; ``relayed`` if its data producer is on another worker."""

    action = "consume-data"
    data_consumer: Id
    data_producer: Id
    transport: Id
    generation: int
    sctp_stream_parameters: SctpStreamParameters
    label: str
    protocol: str
    relayed: bool


class SubscribeResult(Result, Subscription):
    """The subscription as it stands; its consumers come as ``ConsumersOpened``."""

    action = "subscribe"
    generation: int


class ChannelAnswer(Result):
    """What the worker answered to an application that speaks its channel.

    It goes whole to the application's inbox. The log has it without the body where no other result has what came
    of the intent.
    """

    action = "channel"
    intent: str
    target: Id | None = Field(None, description="The transport that was made.")
    generation: int
    accepted: bool
    error: str | None = Field(None, description="TypeError, NotFoundError or Error, as the worker answers.")
    reason: str | None = None
    body: Body | None = Field(None, repr=False, description="Absent from the log: it may hold secrets.")

    def without_secrets(self) -> ChannelAnswer:
        """The result as it may be stored."""
        return self.model_copy(update={"body": None})


class ResultBatch(Result):
    """The results of intents that came in one batch, in the order of the intents."""

    action = "batch"
    items: list[BatchedResult] = Field(min_length=1, max_length=MAX_BATCHED)


RESULTS: tuple[type[Result], ...] = (
    Rejected,
    Done,
    JoinResult,
    TransportResult,
    ProduceResult,
    ProduceDataResult,
    ConsumeResult,
    ConsumeDataResult,
    SubscribeResult,
    ChannelAnswer,
    ResultBatch,
)
