"""A peer's mediasoup objects on its worker, by the ids that its client gave them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import structlog

from mafalda.errors import MafaldaError, NotFound
from mafalda.media.rtp import RtpCapabilities
from mafalda.mediasoup import (
    Consumer,
    DataConsumer,
    DataProducer,
    Producer,
    RtpObserver,
    Transport,
    WebRtcTransport,
)
from mafalda.mediasoup.base.entity import Entity
from mafalda.workers.peers.session.placement import PeerPlacement
from mafalda.workers.relays.target import RelayTarget

log = structlog.get_logger("mafalda.workers")
E = TypeVar("E", bound=Entity)


@dataclass(slots=True, eq=False)
class PeerConsumer:
    """A consumer or data consumer of a peer.

    Args:
        consumer: The object on the worker.
        producer: The id of the producer that it consumes.
        transport: The client's id of the transport that it is on.
        relay: The relay that brings the producer to this worker; ``None`` if the producer is on this worker.
        subscription: The subscription that it was made for; ``None``: it was asked for by itself.
        is_paused: Whether the peer wants it paused.
        is_muted: Whether it is paused because others are louder, whatever the peer wants.
    """

    consumer: Consumer | DataConsumer
    producer: str
    transport: str
    relay: RelayTarget | None
    subscription: str | None = None
    is_paused: bool = False
    is_muted: bool = False


@dataclass(frozen=True, slots=True)
class ObservedProducer:
    """A producer that was added to an RTP observer."""

    observer: str
    producer: str


class PeerObjects:
    """The objects that one peer has on its worker. Each is removed when it closes, whoever closed it.

    Args:
        placement: Of the peer, for log lines.
    """

    def __init__(self, placement: PeerPlacement) -> None:
        self._placement = placement
        self.transports: dict[str, Transport] = {}
        self.producers: dict[str, Producer] = {}
        self.data_producers: dict[str, DataProducer] = {}
        self.consumers: dict[str, PeerConsumer] = {}
        self.observers: dict[str, RtpObserver] = {}
        self.observed: dict[str, ObservedProducer] = {}  # by the id of the consume intent that added the producer
        self.reserved: set[str] = set()  # ids of consumers that wait for a relay, and may be made then
        self.receivers: dict[str, None] = {}  # transports that may receive, the newest last
        self._rtp_capabilities: dict[str | None, RtpCapabilities] = {}  # by transport; None: of the client
        self._close_callbacks: list[Callable[[], Awaitable[None]]] = []

    def transport(self, id: str) -> Transport:
        """A transport of any kind.

        Raises:
            NotFound: The peer has no such transport.
        """
        if found := self.transports.get(id):
            return found
        raise NotFound("the peer has no such transport", transport=id)

    def webrtc_transport(self, id: str) -> WebRtcTransport:
        """A WebRTC transport.

        Raises:
            NotFound: The peer has no such transport, or it is of another kind.
        """
        found = self.transports.get(id)
        if isinstance(found, WebRtcTransport):
            return found
        raise NotFound("no such transport", transport=id)

    def find(self, id: str) -> Entity | None:
        """The object of any kind with this id."""
        consumer = self.consumers.get(id)
        return (
            self.transports.get(id)
            or self.producers.get(id)
            or self.data_producers.get(id)
            or (consumer.consumer if consumer else None)
            or self.observers.get(id)
        )

    def all(self) -> Iterator[Entity]:
        """The objects of every kind."""
        yield from self.transports.values()
        yield from self.producers.values()
        yield from self.data_producers.values()
        yield from (consumer.consumer for consumer in self.consumers.values())
        yield from self.observers.values()

    def add_transport(self, id: str, transport: Transport) -> None:
        """Keep a transport until it closes."""
        _keep_until_closed(self.transports, id, transport)
        transport.on(transport.CLOSE, lambda _: self._rtp_capabilities.pop(id, None))

    def add_receiver(self, id: str, transport: Transport) -> None:
        """Note that a transport may carry consumers, until it closes."""
        self.receivers[id] = None
        transport.on(transport.CLOSE, lambda _: self.receivers.pop(id, None))

    def keep_rtp_capabilities(self, transport: str | None, capabilities: RtpCapabilities) -> bool:
        """Keep what the client can receive on a transport until that closes.

        Without the transport (it is ``None``, or is not there yet): on those of which nothing else is known.

        Returns:
            Whether something else, or nothing, was known before.
        """
        key = transport if transport in self.transports else None
        before = self._rtp_capabilities.get(key)
        self._rtp_capabilities[key] = capabilities
        return before is not capabilities and before != capabilities

    def rtp_capabilities_of(self, transport: str) -> RtpCapabilities | None:
        """What the client can receive on a transport; ``None``: unknown."""
        return self._rtp_capabilities.get(transport) or self._rtp_capabilities.get(None)

    def add_producer(self, id: str, producer: Producer | DataProducer) -> None:
        """Keep a producer or data producer until it closes."""
        if isinstance(producer, Producer):
            _keep_until_closed(self.producers, id, producer)
        else:
            _keep_until_closed(self.data_producers, id, producer)

    def add_observer(self, id: str, observer: RtpObserver) -> None:
        """Keep an RTP observer until it closes."""
        _keep_until_closed(self.observers, id, observer)

    def on_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call ``callback`` in ``close``, when transports and observers are closed."""
        self._close_callbacks.append(callback)

    async def close_one(self, entity: Entity) -> None:
        """Close an object. It is closed here even if the worker does not confirm it, which is logged."""
        try:
            await entity.close()
        except MafaldaError as error:
            log.warning(
                "object not closed",
                action="close_failed",
                **self._placement.log_fields,
                object_id=entity.id,
                reason=str(error),
            )

    async def close(self) -> None:
        """Close everything. May be called again."""
        for entity in (*self.transports.values(), *self.observers.values()):
            await self.close_one(entity)
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            await callback()


def _keep_until_closed(kept: dict[str, E], id: str, entity: E) -> None:
    kept[id] = entity

    def remove(_: str) -> None:
        if kept.get(id) is entity:
            del kept[id]

    entity.on(entity.CLOSE, remove)
