"""Requests for objects that are placed: producers, consumers, and whatever else a transport or an observer is asked.

Each request that changes something becomes the ordinary intent of a peer, with the library's own request inside it, so
that allocators, relays and the log treat it like any other peer's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mafalda.contract.ids import check_id, derived_id
from mafalda.contract.messages.intents import (
    CloseConsumer,
    CloseDataConsumer,
    CloseDataProducer,
    CloseProducer,
    Consume,
    ConsumeData,
    Intent,
    PauseConsumer,
    PauseProducer,
    Produce,
    ProduceData,
    RequestChannel,
    ResumeConsumer,
    ResumeProducer,
)
from mafalda.dropin.fleet.answers import LibraryAnswer, failed, ignore, not_found
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Kind, Node, Objects
from mafalda.dropin.virtual.remaking import hold, kept_setting
from mafalda.dropin.virtual.sessions import Sessions
from mafalda.errors import DeadlineExceeded
from mafalda.media.rtp import RtpCapabilities, RtpParameters, without_zero_channels
from mafalda.media.transport import SctpStreamParameters

#: The key under which a session holds the request that pauses its observer.
_PAUSED = "paused"
_READS = ("_DUMP", "_GET_STATS", "_GET_BUFFERED_AMOUNT")
#: A data producer has no stream on a direct transport, but the intent requires one.
_NO_STREAM = SctpStreamParameters(stream_id=0, ordered=True)

_Handler = Callable[[LibraryRequest, Node, ObjectSession], None]


class EndpointRequests:
    """Handles requests for objects that have a session.

    Args:
        objects: All of the application's.
        sessions: Their sessions.
    """

    def __init__(self, objects: Objects, sessions: Sessions) -> None:
        self._objects = objects
        self._sessions = sessions
        self._handlers: dict[str, _Handler] = {
            "TRANSPORT_PRODUCE": self._produce,
            "TRANSPORT_PRODUCE_DATA": self._produce_data,
            "TRANSPORT_CONSUME": self._consume,
            "TRANSPORT_CONSUME_DATA": self._consume_data,
            "TRANSPORT_CLOSE_PRODUCER": self._closer("producerId", "producer"),
            "TRANSPORT_CLOSE_CONSUMER": self._closer("consumerId", "consumer"),
            "TRANSPORT_CLOSE_DATAPRODUCER": self._closer("dataProducerId", "dataproducer"),
            "TRANSPORT_CLOSE_DATACONSUMER": self._closer("dataConsumerId", "dataconsumer"),
            "PRODUCER_PAUSE": _pauser(lambda id: PauseProducer(producer=id)),
            "PRODUCER_RESUME": _pauser(lambda id: ResumeProducer(producer=id)),
            "DATAPRODUCER_PAUSE": _pauser(lambda id: PauseProducer(producer=id)),
            "DATAPRODUCER_RESUME": _pauser(lambda id: ResumeProducer(producer=id)),
            "CONSUMER_PAUSE": _pauser(lambda id: PauseConsumer(consumer=id)),
            "CONSUMER_RESUME": _pauser(lambda id: ResumeConsumer(consumer=id)),
            "RTPOBSERVER_ADD_PRODUCER": self._observe,
            "RTPOBSERVER_REMOVE_PRODUCER": self._unobserve,
            "RTPOBSERVER_PAUSE": self._pause_observer,
            "RTPOBSERVER_RESUME": self._resume_observer,
        }

    def handle(self, request: LibraryRequest) -> None:
        """Handle a request for an object.

        Raises:
            Refusal: There is no such object, or it does not take requests.
            ValidationError: The body does not fit the intent.
        """
        method = request.method
        node = self._objects.require(request.handler, method)
        if node.session is None:
            raise failed(f"not a request for a {node.kind}")
        handler = self._handlers.get(method)
        if handler is not None:
            handler(request, node, node.session)
            return
        kind = node.type
        call = make_call(method, node.id, request.body)
        if method.endswith(_READS) or _is_private(method, request.body):
            node.session.query(call, lambda answer: request.answer(answer, kind))
        else:
            _request_kept(request, node, node.session, RequestChannel(call=call))

    # --- making -------------------------------------------------------------------------------------

    def _produce(self, request: LibraryRequest, transport: Node, session: ObjectSession) -> None:
        body = request.body
        intent = Produce(
            producer=body["producerId"],
            transport=transport.id,
            media_kind=body["kind"],
            rtp_parameters=RtpParameters.model_validate(without_zero_channels(body["rtpParameters"])),
            paused=body["paused"],
            key_frame_request_delay_ms=body.get("keyFrameRequestDelay") or None,
            channel=make_call("TRANSPORT_PRODUCE", transport.id, body),
        )
        node = self._objects.add(Node(intent.producer, "producer", session, transport.id))
        self._make(request, session, node, intent, CloseProducer(producer=node.id))

    def _produce_data(self, request: LibraryRequest, transport: Node, session: ObjectSession) -> None:
        body = request.body
        intent = ProduceData(
            data_producer=body["dataProducerId"],
            transport=transport.id,
            sctp_stream_parameters=body.get("sctpStreamParameters") or _NO_STREAM,
            label=(body.get("label") or "")[:256],
            protocol=(body.get("protocol") or "")[:256],
            channel=make_call("TRANSPORT_PRODUCE_DATA", transport.id, body),
        )
        node = self._objects.add(Node(intent.data_producer, "dataproducer", session, transport.id))
        self._make(request, session, node, intent, CloseDataProducer(data_producer=node.id))

    def _consume(self, request: LibraryRequest, transport: Node, session: ObjectSession) -> None:
        body = request.body
        intent = Consume(
            consumer=body["consumerId"],
            transport=transport.id,
            producer=body["producerId"],
            rtp_capabilities=RtpCapabilities(),
            paused=body["paused"],
            preferred_layers=body.get("preferredLayers"),
            channel=make_call("TRANSPORT_CONSUME", transport.id, body),
        )
        node = self._objects.add(Node(intent.consumer, "consumer", session, transport.id, producer=intent.producer))
        self._make(request, session, node, intent, CloseConsumer(consumer=node.id))

    def _consume_data(self, request: LibraryRequest, transport: Node, session: ObjectSession) -> None:
        body = request.body
        intent = ConsumeData(
            data_consumer=body["dataConsumerId"],
            transport=transport.id,
            data_producer=body["dataProducerId"],
            channel=make_call("TRANSPORT_CONSUME_DATA", transport.id, body),
        )
        node = self._objects.add(
            Node(intent.data_consumer, "dataconsumer", session, transport.id, producer=intent.data_producer)
        )
        self._make(request, session, node, intent, CloseDataConsumer(data_consumer=node.id))

    def _make(self, request: LibraryRequest, session: ObjectSession, node: Node, intent: Intent, undo: Intent) -> None:
        def made(answer: LibraryAnswer) -> None:
            if answer.refusal is not None:
                self._sessions.remove(node)
                if answer.refusal.code == DeadlineExceeded.code:
                    session.request(undo, ignore)  # it may be made all the same
                request.refuse(answer.refusal)
                return
            if session.remake is not None:
                hold(session, node.id, "made", intent)
            request.undo = lambda: self._undo(session, node, undo)
            request.accept(answer.body)
            self._sessions.announce(node)

        session.request(intent, made)

    def _undo(self, session: ObjectSession, node: Node, undo: Intent) -> None:
        self._sessions.remove(node)
        session.request(undo, ignore)

    # --- ending and pausing -------------------------------------------------------------------------

    def _closer(self, key: str, kind: Kind) -> _Handler:
        """Handles the closing of an object of this kind, whose id is under ``key`` in the body."""

        def close(request: LibraryRequest, transport: Node, session: ObjectSession) -> None:
            id = request.body[key]
            node = transport.children.get(id)
            if node is None or node.kind != kind:
                raise not_found(id, request.method)
            self._sessions.remove(node)
            if session.is_lost and not session.is_reopened:
                request.accept()
                return
            intents: dict[Kind, Intent] = {
                "producer": CloseProducer(producer=id),
                "consumer": CloseConsumer(consumer=id),
                "dataproducer": CloseDataProducer(data_producer=id),
                "dataconsumer": CloseDataConsumer(data_consumer=id),
            }
            session.request(intents[kind], request.answer)

        return close

    # --- observers ----------------------------------------------------------------------------------

    def _observe(self, request: LibraryRequest, observer: Node, session: ObjectSession) -> None:
        """To the fleet it is a consume, so that a relay brings the producer to the observer's worker."""
        producer = check_id("producer", request.body["producerId"])
        intent = Consume(
            consumer=_observed(observer.id, producer),
            transport=observer.id,
            producer=producer,
            rtp_capabilities=RtpCapabilities(),
            paused=False,
            channel=make_call("RTPOBSERVER_ADD_PRODUCER", observer.id, request.body),
        )
        self._forget_closed(session)
        self._request_held(request, session, intent, intent.consumer)

    def _unobserve(self, request: LibraryRequest, observer: Node, session: ObjectSession) -> None:
        consumer = _observed(observer.id, request.body["producerId"])
        self._release(request, session, CloseConsumer(consumer=consumer), consumer)

    def _pause_observer(self, request: LibraryRequest, observer: Node, session: ObjectSession) -> None:
        self._request_held(
            request, session, RequestChannel(call=make_call("RTPOBSERVER_PAUSE", observer.id, None)), _PAUSED
        )

    def _resume_observer(self, request: LibraryRequest, observer: Node, session: ObjectSession) -> None:
        self._release(
            request, session, RequestChannel(call=make_call("RTPOBSERVER_RESUME", observer.id, None)), _PAUSED
        )

    def _request_held(self, request: LibraryRequest, session: ObjectSession, intent: Intent, key: str) -> None:
        """Publish an intent that the session requests again at each of the observer's places."""

        def granted(answer: LibraryAnswer) -> None:
            if answer.refusal is None:
                session.held[key] = intent
            request.answer(LibraryAnswer({}, answer.refusal))

        session.request(intent, granted)

    def _release(self, request: LibraryRequest, session: ObjectSession, intent: Intent, key: str) -> None:
        """Publish an intent that ends what the session holds under this key."""

        def granted(answer: LibraryAnswer) -> None:
            if answer.refusal is None:
                session.held.pop(key, None)
            request.answer(LibraryAnswer({}, answer.refusal))

        session.request(intent, granted)

    def _forget_closed(self, session: ObjectSession) -> None:
        """Do not request again to observe producers that are closed."""
        for key, intent in list(session.held.items()):
            if isinstance(intent, Consume) and self._objects.get(intent.producer) is None:
                del session.held[key]


def _pauser(intent: Callable[[str], Intent]) -> _Handler:
    """Handles a request that pauses or resumes its object by one intent."""

    def publish(request: LibraryRequest, node: Node, session: ObjectSession) -> None:
        _request_kept(request, node, session, intent(node.id))

    return publish


def _request_kept(request: LibraryRequest, node: Node, session: ObjectSession, intent: Intent) -> None:
    """Publish an intent; where a transport can be made again, what it sets is set again then."""

    def granted(answer: LibraryAnswer) -> None:
        if (
            answer.refusal is None
            and session.remake is not None
            and (kept := kept_setting(request.method, node.id, intent, answer.body))
        ):
            hold(session, node.id, *kept)
        request.answer(answer, node.type)

    session.request(intent, granted)


def _observed(observer: str, producer: str) -> str:
    """The id of the consumer that stands for an observed producer."""
    return derived_id("observed", observer, producer)


def _is_private(method: str, body: dict[str, Any]) -> bool:
    """Whether a request must not be stored: it holds keys, or it is media."""
    return method == "DATACONSUMER_SEND" or bool(body.get("srtpParameters"))
