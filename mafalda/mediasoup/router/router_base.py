"""The state of a router, its transports and RTP observers, and the requests that create them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup import ortc
from mafalda.mediasoup.base.entity import CloseCause, Entity, EntityContext, JsonObject
from mafalda.mediasoup.base.events import Event
from mafalda.mediasoup.base.ids import unscoped
from mafalda.mediasoup.codec import shapes
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.endpoints.router_context import RouterContext
from mafalda.mediasoup.router.rtp_observer import RtpObserver
from mafalda.mediasoup.transports.transport import Transport

T = TypeVar("T", bound=Transport)
O = TypeVar("O", bound=RtpObserver)  # noqa: E741


class RouterBase(Entity):
    """The state of a router, its transports and its RTP observers."""

    NEW_TRANSPORT: ClassVar = Event[Transport]("newtransport")
    NEW_RTP_OBSERVER: ClassVar = Event[RtpObserver]("newrtpobserver")
    WORKER_CLOSE: ClassVar = Event[None]("workerclose")

    CLOSE_METHOD = "WORKER_CLOSE_ROUTER"
    ID_KEY = "routerId"

    def __init__(self, context: EntityContext, rtp_capabilities: RtpCapabilities, scope: str = "") -> None:
        super().__init__(context)
        self._context = RouterContext(self._id, rtp_capabilities, scope)
        self._transports: dict[str, Transport] = {}
        self._rtp_observers: dict[str, RtpObserver] = {}

    @property
    def scope(self) -> str:
        """What is appended to the ids of its producers inside the worker; empty: nothing."""
        return self._context.scope

    @property
    def rtp_capabilities(self) -> RtpCapabilities:
        """What the router can receive, for endpoints to choose from."""
        return self._context.rtp_capabilities

    @property
    def transports(self) -> Mapping[str, Transport]:
        """Its open transports by id."""
        return self._transports

    @property
    def rtp_observers(self) -> Mapping[str, RtpObserver]:
        """Its open RTP observers by id."""
        return self._rtp_observers

    def get_producer(self, producer_id: str) -> Producer | None:
        """The open producer with this id, on whichever transport."""
        return self._context.producers.get(producer_id)

    def get_data_producer(self, data_producer_id: str) -> DataProducer | None:
        """The open data producer with this id, on whichever transport."""
        return self._context.data_producers.get(data_producer_id)

    def require_producer(self, producer_id: str) -> Producer:
        """The open producer with this id.

        Raises:
            NotFound: There is none.
            InvalidParameters: It is not an id.
        """
        return self._context.producers.require(producer_id)

    def require_data_producer(self, data_producer_id: str) -> DataProducer:
        """The open data producer with this id.

        Raises:
            NotFound: There is none.
            InvalidParameters: It is not an id.
        """
        return self._context.data_producers.require(data_producer_id)

    def can_consume(self, *, producer_id: str, rtp_capabilities: RtpCapabilities | Mapping[str, Any]) -> bool:
        """Whether an endpoint with these capabilities can receive the producer.

        Raises:
            InvalidParameters: The capabilities are malformed.
        """
        producer = self.get_producer(producer_id)
        return producer is not None and ortc.can_consume(producer.consumable_rtp_parameters, rtp_capabilities)

    def update_media_codecs(self, media_codecs: Sequence[Any]) -> None:
        """Replace the codecs for what is produced from now on.

        Raises:
            InvalidParameters: One is malformed.
            UnsupportedError: mediasoup does not know one.
        """
        self._context.rtp_capabilities = ortc.generate_router_rtp_capabilities(media_codecs)

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        dump: JsonObject = unscoped(await self._request("ROUTER_DUMP"), self.scope)
        return dump

    async def make_transport(
        self, kind: type[T], method: str, body: JsonObject, app_data: Mapping[str, Any] | None = None
    ) -> tuple[T, JsonObject]:
        """For the driver: create a transport.

        Args:
            kind: Its class.
            method: The request, such as ``ROUTER_CREATE_PLAINTRANSPORT``.
            body: The request's body.
            app_data: The application's own.

        Returns:
            The transport, and the worker's answer.

        Raises:
            AlreadyExists: The id is in use.
            WorkerRequestFailed: The worker refused.
            ObjectClosed: The router closed meanwhile.
        """
        context = self._child_context(body["transportId"], self._forget_transport, app_data)
        answer = await self._request_child(kind, method, context.id, body)
        transport = kind(context, self._context, shapes.transport_dump(answer))
        self._transports[transport.id] = transport
        transport.receive_notifications()
        self._emit(self.NEW_TRANSPORT, transport)
        return transport, answer

    async def make_observer(
        self, kind: type[O], method: str, body: JsonObject, app_data: Mapping[str, Any] | None = None
    ) -> tuple[O, JsonObject]:
        """For the driver: create an RTP observer.

        Returns:
            The RTP observer, and the worker's answer.
        """
        context = self._child_context(body["rtpObserverId"], self._forget_observer, app_data)
        answer = await self._request_child(kind, method, context.id, body)
        observer = kind(context, self._context)
        self._rtp_observers[observer.id] = observer
        observer.receive_notifications()
        self._emit(self.NEW_RTP_OBSERVER, observer)
        return observer, answer

    def _child_context(
        self, id: str, on_end: Callable[[Any], None], app_data: Mapping[str, Any] | None
    ) -> EntityContext:
        return EntityContext(self._channel, self._id, id, on_end, app_data)

    def _forget_transport(self, transport: Transport) -> None:
        self._transports.pop(transport.id, None)

    def _forget_observer(self, observer: RtpObserver) -> None:
        self._rtp_observers.pop(observer.id, None)

    def _children(self) -> Iterable[tuple[Entity, CloseCause]]:
        for transport in self._transports.values():
            yield transport, "routerclose"
        for observer in self._rtp_observers.values():
            yield observer, "routerclose"
