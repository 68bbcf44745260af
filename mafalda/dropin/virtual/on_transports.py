"""Producers, consumers and whatever else is asked of a transport's or an observer's own objects.

Each request becomes the ordinary intent that any peer would publish, with the library's own request inside it, so that
allocators, relays and the log see what they always see. What does not belong here: making transports
(``virtual_worker``).
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
from mafalda.dropin.fleet.fleet import Answer, make_call
from mafalda.dropin.fleet.peer_session import Home, ignore
from mafalda.dropin.virtual.errors import failed, not_found
from mafalda.dropin.virtual.objects import Kind, Node, Objects
from mafalda.dropin.virtual.requests import Open
from mafalda.media.rtp import RtpCapabilities, RtpParameters
from mafalda.media.transport import SctpStreamParameters

#: Under which what pauses an observer is held.
_PAUSED = "paused"
_READS = ("_DUMP", "_GET_STATS", "_GET_BUFFERED_AMOUNT")
#: A data producer has no stream on a direct transport, but the words want one.
_NO_STREAM = SctpStreamParameters(stream_id=0, ordered=True)


class OnTransports:
    """Handles requests for objects that live at a home.

    Args:
        objects: All of the application's.
        open_node: Called when the library knows of an object.
        drop: Called when an object could not be made.
    """

    def __init__(self, objects: Objects, open_node: Callable[[Node], None], drop: Callable[[Node], None]) -> None:
        self._objects = objects
        self._open_node = open_node
        self._drop = drop
        self._handlers: dict[str, Callable[[Open, Node, Home], None]] = {
            "TRANSPORT_PRODUCE": self._produce,
            "TRANSPORT_PRODUCE_DATA": self._produce_data,
            "TRANSPORT_CONSUME": self._consume,
            "TRANSPORT_CONSUME_DATA": self._consume_data,
            "TRANSPORT_CLOSE_PRODUCER": lambda it, node, home: self._close(it, node, home, "producerId", "producer"),
            "TRANSPORT_CLOSE_CONSUMER": lambda it, node, home: self._close(it, node, home, "consumerId", "consumer"),
            "TRANSPORT_CLOSE_DATAPRODUCER": lambda it, node, home: self._close(
                it, node, home, "dataProducerId", "dataproducer"
            ),
            "TRANSPORT_CLOSE_DATACONSUMER": lambda it, node, home: self._close(
                it, node, home, "dataConsumerId", "dataconsumer"
            ),
            "PRODUCER_PAUSE": lambda it, node, home: self._simple(it, home, PauseProducer(producer=node.id)),
            "PRODUCER_RESUME": lambda it, node, home: self._simple(it, home, ResumeProducer(producer=node.id)),
            "DATAPRODUCER_PAUSE": lambda it, node, home: self._simple(it, home, PauseProducer(producer=node.id)),
            "DATAPRODUCER_RESUME": lambda it, node, home: self._simple(it, home, ResumeProducer(producer=node.id)),
            "CONSUMER_PAUSE": lambda it, node, home: self._simple(it, home, PauseConsumer(consumer=node.id)),
            "CONSUMER_RESUME": lambda it, node, home: self._simple(it, home, ResumeConsumer(consumer=node.id)),
            "RTPOBSERVER_ADD_PRODUCER": self._observe,
            "RTPOBSERVER_REMOVE_PRODUCER": self._unobserve,
            "RTPOBSERVER_PAUSE": self._pause_observer,
            "RTPOBSERVER_RESUME": self._resume_observer,
        }

    def handle(self, request: Open) -> None:
        """Do what is asked of an object.

        Raises:
            Refusal: There is no such object, or it cannot be asked this.
            ValidationError: The body does not fit the words.
        """
        method = request.request.method
        node = self._objects.require(request.request.handler, method)
        if node.home is None:
            raise failed(f"not a request for a {node.kind}")
        handler = self._handlers.get(method)
        if handler is not None:
            handler(request, node, node.home)
            return
        kind = node.type
        call = make_call(method, node.id, request.request.body)
        if method.endswith(_READS) or _is_private(method, request.body):
            node.home.ask(call, lambda answer: request.take(answer, kind))
        else:
            node.home.want(RequestChannel(call=call), lambda answer: request.take(answer, kind))

    # --- making -------------------------------------------------------------------------------------

    def _produce(self, request: Open, transport: Node, home: Home) -> None:
        body = request.body
        intent = Produce(
            producer=body["producerId"],
            transport=transport.id,
            media_kind=body["kind"],
            rtp_parameters=RtpParameters.model_validate(body["rtpParameters"]),
            paused=body["paused"],
            key_frame_request_delay_ms=body.get("keyFrameRequestDelay") or None,
            channel=make_call("TRANSPORT_PRODUCE", transport.id, body),
        )
        node = self._objects.add(Node(intent.producer, "producer", home, transport.id))
        self._make(request, home, node, intent, CloseProducer(producer=node.id))

    def _produce_data(self, request: Open, transport: Node, home: Home) -> None:
        body = request.body
        intent = ProduceData(
            data_producer=body["dataProducerId"],
            transport=transport.id,
            sctp_stream_parameters=body.get("sctpStreamParameters") or _NO_STREAM,
            label=(body.get("label") or "")[:256],
            protocol=(body.get("protocol") or "")[:256],
            channel=make_call("TRANSPORT_PRODUCE_DATA", transport.id, body),
        )
        node = self._objects.add(Node(intent.data_producer, "dataproducer", home, transport.id))
        self._make(request, home, node, intent, CloseDataProducer(data_producer=node.id))

    def _consume(self, request: Open, transport: Node, home: Home) -> None:
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
        node = self._objects.add(Node(intent.consumer, "consumer", home, transport.id, producer=intent.producer))
        self._make(request, home, node, intent, CloseConsumer(consumer=node.id))

    def _consume_data(self, request: Open, transport: Node, home: Home) -> None:
        body = request.body
        intent = ConsumeData(
            data_consumer=body["dataConsumerId"],
            transport=transport.id,
            data_producer=body["dataProducerId"],
            channel=make_call("TRANSPORT_CONSUME_DATA", transport.id, body),
        )
        node = self._objects.add(
            Node(intent.data_consumer, "dataconsumer", home, transport.id, producer=intent.data_producer)
        )
        self._make(request, home, node, intent, CloseDataConsumer(data_consumer=node.id))

    def _make(self, request: Open, home: Home, node: Node, intent: Intent, undo: Intent) -> None:
        def made(answer: Answer) -> None:
            if answer.refusal is not None:
                self._drop(node)
                request.refuse(answer.refusal)
                return
            request.late = lambda: self._undo(home, node, undo)
            request.accept(answer.body)
            self._open_node(node)

        home.want(intent, made)

    def _undo(self, home: Home, node: Node, undo: Intent) -> None:
        self._drop(node)
        home.want(undo, ignore)

    # --- ending and pausing -------------------------------------------------------------------------

    def _close(self, request: Open, transport: Node, home: Home, key: str, kind: Kind) -> None:
        id = request.body[key]
        node = transport.children.get(id)
        if node is None or node.kind != kind:
            raise not_found(id, request.request.method)
        self._drop(node)
        if home.is_lost:
            request.accept()
            return
        intents: dict[Kind, Intent] = {
            "producer": CloseProducer(producer=id),
            "consumer": CloseConsumer(consumer=id),
            "dataproducer": CloseDataProducer(data_producer=id),
            "dataconsumer": CloseDataConsumer(data_consumer=id),
        }
        home.want(intents[kind], request.take)

    def _simple(self, request: Open, home: Home, intent: Intent) -> None:
        home.want(intent, request.take)

    # --- observers ----------------------------------------------------------------------------------

    def _observe(self, request: Open, observer: Node, home: Home) -> None:
        """A consumer, as far as the fleet is concerned: a relay brings the producer."""
        producer = check_id("producer", request.body["producerId"])
        intent = Consume(
            consumer=_observed(observer.id, producer),
            transport=observer.id,
            producer=producer,
            rtp_capabilities=RtpCapabilities(),
            paused=False,
            channel=make_call("RTPOBSERVER_ADD_PRODUCER", observer.id, request.body),
        )
        self._forget_closed(home)
        self._hold(request, home, intent, intent.consumer)

    def _unobserve(self, request: Open, observer: Node, home: Home) -> None:
        consumer = _observed(observer.id, request.body["producerId"])
        self._let_go(request, home, CloseConsumer(consumer=consumer), consumer)

    def _pause_observer(self, request: Open, observer: Node, home: Home) -> None:
        self._hold(request, home, RequestChannel(call=make_call("RTPOBSERVER_PAUSE", observer.id, None)), _PAUSED)

    def _resume_observer(self, request: Open, observer: Node, home: Home) -> None:
        self._let_go(request, home, RequestChannel(call=make_call("RTPOBSERVER_RESUME", observer.id, None)), _PAUSED)

    def _hold(self, request: Open, home: Home, intent: Intent, key: str) -> None:
        """Want something that holds wherever the observer is."""

        def granted(answer: Answer) -> None:
            if answer.refusal is None:
                home.holds[key] = intent
            request.take(Answer({}, answer.refusal))

        home.want(intent, granted)

    def _let_go(self, request: Open, home: Home, intent: Intent, key: str) -> None:
        def granted(answer: Answer) -> None:
            if answer.refusal is None:
                home.holds.pop(key, None)
            request.take(Answer({}, answer.refusal))

        home.want(intent, granted)

    def _forget_closed(self, home: Home) -> None:
        """Producers that have closed are observed no more."""
        for key, intent in list(home.holds.items()):
            if isinstance(intent, Consume) and self._objects.get(intent.producer) is None:
                del home.holds[key]


def _observed(observer: str, producer: str) -> str:
    """The id of the consumer that stands for an observed producer."""
    return derived_id("observed", observer, producer)


def _is_private(method: str, body: dict[str, Any]) -> bool:
    """Whether a request must not rest in the log: keys, and what is media rather than a wish."""
    return method == "DATACONSUMER_SEND" or bool(body.get("srtpParameters"))
