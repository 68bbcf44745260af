"""What one peer has for its application: its inbox, its observers, the producers that they observe.

What does not belong here: doing what is asked (``calls``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.channels import fits
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.notices import ChannelNotices
from mafalda.errors import BadInput, MafaldaError
from mafalda.mediasoup import Consumer, DataProducer, Producer, RtpObserver
from mafalda.mediasoup.base.entity import Entity
from mafalda.mediasoup.base.ids import unscoped
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.workers.core.instructions import MirrorKey
from mafalda.workers.passthrough.registry import Guests
from mafalda.workers.peers.peer import PeerActor
from mafalda.workers.relays.direct_data import SEND, send

#: What an application may tell its objects, and of which kind those are.
_TELLABLE = {"TRANSPORT_SEND_RTCP": DirectTransport, "PRODUCER_SEND": Producer}
log = structlog.get_logger("mafalda.workers")


class Guest:
    """Of one actor. ``observed`` are the producers of its observers, by the id of the consumer that stands for each."""

    def __init__(self, house: Guests, actor: PeerActor) -> None:
        self.house = house
        self.actor = actor
        self.inbox: str | None = None
        self.observers: dict[str, RtpObserver] = {}
        self._observed: dict[str, tuple[str, str]] = {}
        self.listener: str | None = None  # of which the peer is the home
        self.leases: dict[str, str] = {}  # transport: listener
        self._listening: asyncio.Task[None] | None = None

    @property
    def observed(self) -> Mapping[str, tuple[str, str]]:
        """By the consumer that stands for it: observer and producer."""
        return self._observed

    def watch(self, entity: Entity, *, but: str = "") -> None:
        """Tell the application everything that the worker says of this object, but for one event."""

        def told(event: str, body: dict[str, Any]) -> None:
            if self.inbox is not None and event != but:
                self.house.tell(self.inbox, event, entity.id, unscoped(body, self.actor.router.scope))

        entity.intercept_notifications(told)

    def watch_relayed(self, consumer: Consumer, key: MirrorKey) -> None:
        """As ``watch``, for a consumer of a mirror: the producer's score is shown as it is at its origin."""
        scores = self.actor.services.scores

        def tell_score() -> None:
            if self.inbox is not None:
                body = {"score": scores.shown(key, consumer).to_json_dict()}
                self.house.tell(self.inbox, "CONSUMER_SCORE", consumer.id, body)

        self.watch(consumer, but="CONSUMER_SCORE")
        consumer.on(consumer.SCORE, lambda _: tell_score())
        scores.watch(key, consumer, tell_score)

    async def listen(self) -> None:
        """Hear what the application tells its objects, from now on."""
        if self._listening is not None:
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening = self.house.tasks.spawn(self._listen(ready), f"guest {self.actor.peer} is heard")
        await ready

    async def _listen(self, ready: asyncio.Future[None]) -> None:
        subject = subjects.notice(self.actor.room, self.actor.peer, ChannelNotices.action)
        async with self.house.bus.listen(subject) as deliveries:
            ready.set_result(None)
            async for delivery in deliveries:
                self._hear(delivery)

    def _hear(self, delivery: Delivery) -> None:
        try:
            message = decode(delivery.data)
            address = subjects.parse(delivery.subject)
            if address is None or not fits(address, message.data) or not isinstance(message.data, ChannelNotices):
                return
        except BadInput as error:
            self._refuse(error)
            return
        for notice in message.data.items:
            try:
                self._take(notice)
            except MafaldaError as error:
                self._refuse(error)

    def _take(self, notice: ChannelNotice) -> None:
        actor, entity = self.actor, self.find(notice.handler)
        if notice.event == SEND and isinstance(entity, DataProducer):
            send(actor.services.beside, actor.room, actor.place.worker, entity, notice)
        elif entity is not None and isinstance(entity, _TELLABLE.get(notice.event, ())):
            actor.live.worker.notify(notice.event, entity.channel_id, from_json(notice.body))

    def _refuse(self, error: MafaldaError) -> None:
        log.warning("notice refused", action="notice_refused", peer_id=self.actor.peer, reason=str(error))

    def find(self, handler: str) -> Entity | None:
        """The peer's own object with this id."""
        actor = self.actor
        heard = actor.consumers.get(handler)
        return (
            actor.transports.get(handler)
            or actor.producers.get(handler)
            or actor.data_producers.get(handler)
            or (heard.consumer if heard else None)
            or self.observers.get(handler)
        )

    def observe(self, consumer: str, observer: str, producer: str) -> None:
        """An observer of the peer observes a producer."""
        self._observed[consumer] = (observer, producer)

    def unobserve(self, consumer: str) -> None:
        """It does no more."""
        if found := self._observed.pop(consumer, None):
            key = MirrorKey(self.actor.room, found[1], self.actor.place.worker)
            self.actor.services.mirrors.drop(key, (self.actor.peer, consumer))

    async def close(self) -> None:
        """The peer's place is over."""
        for consumer in list(self._observed):
            self.unobserve(consumer)
        for observer in list(self.observers.values()):
            await _quietly(observer)
        self.observers.clear()
        for transport, listener in list(self.leases.items()):
            del self.leases[transport]
            await self.house.listeners.release(listener, self.actor.place.worker, transport)
        if self.listener is not None:
            listener, self.listener = self.listener, None
            await self.house.listeners.close(listener)
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])


async def _quietly(entity: Entity) -> None:
    try:
        await entity.close()
    except MafaldaError as error:
        log.warning("not closed", action="close_failed", reason=str(error))


def guest_of(actor: PeerActor, house: Guests) -> Guest:
    """The actor's guest; made at first use."""
    if actor.guest is None:
        actor.guest = Guest(house, actor)
    assert isinstance(actor.guest, Guest)
    return actor.guest
