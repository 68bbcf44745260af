"""Subscriptions: one wish, and a consumer of each producer that fits it, made by the peer's agent as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import NamedTuple, TypeVar

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.aio.events import Interrupted, run_unless_set, wait_first
from mafalda.client.resources.consumer import Consumer
from mafalda.client.resources.data import DataConsumer
from mafalda.client.resources.reconnecting import ReconnectingResource
from mafalda.client.session.session import Session
from mafalda.client.session.view import ProducerChange
from mafalda.client.webrtc.endpoint import Endpoint, new_id
from mafalda.contract.messages.events import ConsumersClosed, ConsumersOpened, Event
from mafalda.contract.messages.intents import ChangeSubscription, Subscribe, Unsubscribe
from mafalda.contract.messages.queries import ProducerInfo
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult, SubscribeResult
from mafalda.contract.messages.subscriptions import (
    MAX_SELECTORS,
    ConsumerFormat,
    ProducerSelector,
    SubscribedConsumer,
    change_selection,
)
from mafalda.contract.messages.subscriptions import Subscription as SubscriptionWish
from mafalda.errors import BadInput, Broken, Closed, MafaldaError
from mafalda.media.rtp import ConsumerLayers, RtpCapabilities

AnyConsumer = Consumer | DataConsumer
R = TypeVar("R", ConsumeResult, ConsumeDataResult)


class _Announced(NamedTuple):
    """A consumer of which the agent has told."""

    consumer: SubscribedConsumer
    transport: str
    generation: int


class Subscription(ReconnectingResource, AsyncIterator[AnyConsumer]):
    """Made by ``room.subscribe``. Iterate it for its consumers: those of now, then each new one, open.

    It goes on at each next place of the peer, as its consumers do. A consumer that is closed alone is taken out of the
    subscription.
    """

    def __init__(
        self,
        session: Session,
        select: Iterable[ProducerSelector],
        *,
        paused: bool,
        layers: ConsumerLayers | None,
        loudest: int | None,
    ) -> None:
        self._id = new_id("subscription")
        super().__init__(session, self._id)
        self._select = list(select)
        self._sent = self._select  # with which it was opened last
        #: Closed producers that a selector names. They may come back, so the selector stays while there is room for it.
        self._gone: set[str] = set()
        self._paused = paused
        self._layers = layers
        self._loudest = loudest
        self._queue: BoundedQueue[AnyConsumer] = BoundedQueue(session.config.max_queued_events, overflow="fail")
        self._announced: dict[str, _Announced] = {}  # by producer
        self._formats: dict[int, dict[int, ConsumerFormat]] = {}  # by generation
        self._news = asyncio.Event()
        self._consumers: dict[str, AnyConsumer] = {}  # by producer

    @property
    def id(self) -> str:
        return self._id

    @property
    def consumers(self) -> Mapping[str, AnyConsumer]:
        """The consumers that are open or about to be, by the id of their producer."""
        return {producer: it for producer, it in self._consumers.items() if not it.closed}

    async def __anext__(self) -> AnyConsumer:
        try:
            return await self._queue.take()
        except Closed:
            raise StopAsyncIteration from None

    async def wait_flowing(self) -> None:
        """Return when it is open at its present place: its consumers are awaited by themselves."""
        await self.wait_open()

    async def add(self, *, peer: str | None = None, kind: str | None = None, producer: str | None = None) -> None:
        """Receive what fits from now on."""
        await self._change(add=[_selector(peer, kind, producer)])

    async def remove(self, *, peer: str | None = None, kind: str | None = None, producer: str | None = None) -> None:
        """Receive nothing more of what fits."""
        await self._change(remove=[_selector(peer, kind, producer)])

    async def _change(self, *, add: Iterable[ProducerSelector] = (), remove: Iterable[ProducerSelector] = ()) -> None:
        self._check()
        change = ChangeSubscription(subscription=self._id, add=list(add), remove=list(remove))
        before = self._select
        changed = change_selection(before, change.add, change.remove)
        if len(changed) > MAX_SELECTORS:
            changed = self._without_gone(changed)
        _check_length(changed)
        self._select = changed
        try:
            await run_unless_set(self._not_open, self._request_change(change), f"{self._id}-change")
        except Interrupted:
            self._check()  # else it is being opened, or has to be: with the selection
        except Broken:
            self.lose()  # it is opened again, with the selection
            raise
        except MafaldaError:
            if self._select is changed:
                self._select = before
            raise

    async def _request_change(self, change: ChangeSubscription) -> None:
        try:
            await self._session.requests.request(change, SubscribeResult)
        except BadInput:  # maybe too many, with those of closed producers
            self._select[:] = self._without_gone(self._select)
            await self._session.requests.request(self._wish(self._select), SubscribeResult)

    # --- for its consumers --------------------------------------------------------------------------

    async def media(self, producer: str, endpoint: Endpoint) -> ConsumeResult:
        """The consumer of a producer at an endpoint, as soon as the agent has made it."""
        found = await self._wait_announced(producer, endpoint)
        it = found.consumer
        return ConsumeResult(
            consumer=it.consumer,
            producer=producer,
            transport=found.transport,
            generation=found.generation,
            media_kind="audio" if it.kind == "audio" else "video",
            type=it.type or "simple",
            rtp_parameters=it.rtp_parameters(self._formats[found.generation]),
            paused=it.paused,
            producer_paused=it.producer_paused,
            relayed=it.relayed,
        )

    async def data(self, producer: str, endpoint: Endpoint) -> ConsumeDataResult:
        """The data consumer of a producer at an endpoint, as soon as the agent has made it."""
        found = await self._wait_announced(producer, endpoint)
        it = found.consumer
        assert it.sctp_stream_parameters is not None, "a data consumer has a stream"
        return ConsumeDataResult(
            data_consumer=it.consumer,
            data_producer=producer,
            transport=found.transport,
            generation=found.generation,
            sctp_stream_parameters=it.sctp_stream_parameters,
            label=it.label or "",
            protocol=it.protocol or "",
            relayed=it.relayed,
        )

    def announces(self, producer: str) -> bool:
        """Whether the agent makes a consumer of a producer, or has made one, unless the producer is too quiet now."""
        found, info = self._announced.get(producer), self._session.view.producers.get(producer)
        if found is not None and found.generation == self._session.generation:
            return True
        if self._loudest is None or not isinstance(info, ProducerInfo):
            return True
        wish = SubscriptionWish(subscription=self._id, select=self._select, loudest=self._loudest)
        return not wish.wants_by_loudness(info.media_kind, info.peer, producer)

    async def exclude(self, producer: str) -> None:
        """Take a producer out of the subscription."""
        self._announced.pop(producer, None)
        await self.remove(producer=producer)

    async def _wait_announced(self, producer: str, endpoint: Endpoint) -> _Announced:
        while True:
            self._check()
            found = self._announced.get(producer)
            if found and found.generation == endpoint.generation and endpoint.has_transport(found.transport):
                return found
            self._news.clear()
            await wait_first(self._news, self._over)

    # --- what the agent tells -----------------------------------------------------------------------

    def on_peer_event(self, event: Event) -> None:
        match event:
            case ConsumersOpened(subscription=self._id):
                self._take_opened(event)
            case ConsumersClosed(subscription=self._id):
                closed = set(event.consumers)
                for producer, it in [*self._announced.items()]:
                    if it.consumer.consumer in closed:
                        del self._announced[producer]
                        self._drop(producer)
                for producer in [key for key, consumer in self._consumers.items() if consumer.id in closed]:
                    self._drop(producer)

    def _take_opened(self, event: ConsumersOpened) -> None:
        formats = self._formats.setdefault(event.generation, {})
        formats |= {it.format: it for it in event.formats}
        for failure in event.failed:
            error = failure.error.to_error()
            self._announced.pop(failure.producer, None)
            if known := self._consumers.pop(failure.producer, None):
                known.finish(error)
            self._session.gave_up(failure.producer, error)
        for it in event.consumers:
            self._announced[it.producer] = _Announced(it, event.transport, event.generation)
            known = self._consumers.get(it.producer)
            if known is None or known.closed:
                self._begin(it)
            elif known.is_open:
                known.lose()  # the agent has made it anew
        self._news.set()

    def _begin(self, announced: SubscribedConsumer) -> None:
        made: AnyConsumer
        if announced.kind == "data":
            made = DataConsumer(self._session, announced.producer, source=self)
        else:
            made = Consumer(self._session, announced.producer, paused=self._paused, layers=self._layers, source=self)
        self._consumers[announced.producer] = made
        self._session.tasks.spawn(self._start(made), f"{self._id}-{announced.producer}")

    async def _start(self, consumer: AnyConsumer) -> None:
        try:
            await consumer.start()
        except MafaldaError as error:
            if not self._session.over and self._consumers.get(consumer.producer_id) is consumer:
                self._session.gave_up(consumer.producer_id, error)
            return
        self._queue.put(consumer)

    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        for producer, change in changes.items():
            if change in ("opened", "moved", "closed"):
                self._announced.pop(producer, None)  # its agent tells again when it is there
            if change == "closed":
                self._consumers.pop(producer, None)
                if any(it.producer == producer for it in self._select):
                    self._gone.add(producer)
            elif change == "opened":
                self._gone.discard(producer)

    def _without_gone(self, select: list[ProducerSelector]) -> list[ProducerSelector]:
        return [it for it in select if it.producer not in self._gone]

    def _drop(self, producer: str) -> None:
        if consumer := self._consumers.pop(producer, None):
            self._session.tasks.spawn(consumer.end_here(), f"{self._id}-drop-{producer}")

    # --- as a resource ------------------------------------------------------------------------------

    async def _open_at(self, endpoint: Endpoint) -> None:
        self._formats = {
            generation: it for generation, it in self._formats.items() if generation >= endpoint.generation
        }
        capabilities = await endpoint.open_receiver()
        while True:
            select = self._select
            intent = self._wish(select, capabilities)  # where the fleet has it already, this changes nothing
            result = await self._session.requests.request(intent, SubscribeResult)
            if select is self._select and result.generation >= endpoint.generation:
                self._sent = select
                return

    def _wish(self, select: list[ProducerSelector], capabilities: RtpCapabilities | None = None) -> Subscribe:
        _check_length(select)
        return Subscribe(
            subscription=self._id,
            select=select,
            paused=True,  # each is resumed when it is ready here, as mediasoup advises
            preferred_layers=self._layers,
            loudest=self._loudest,
            rtp_capabilities=capabilities,
        )

    async def _keep_settings(self) -> None:
        if self._sent is not self._select:  # changed since then, before it counted as open
            self.lose()

    async def _close_here(self) -> None:
        return

    @property
    def outlasts_endpoint(self) -> bool:
        return True

    async def _request_close(self) -> None:
        await self._request_until_answered(self._closing())

    def _closing(self) -> Unsubscribe:
        return Unsubscribe(subscription=self._id)

    def _ended(self) -> None:
        self._queue.end(self._error)
        for consumer in self._consumers.values():
            if not consumer.closed and not self._session.over:
                self._session.tasks.spawn(consumer.end_here(), f"{self._id}-end-{consumer.producer_id}")


def _selector(peer: str | None, kind: str | None, producer: str | None) -> ProducerSelector:
    return ProducerSelector.model_validate({"peer": peer, "kind": kind, "producer": producer})


def _check_length(select: list[ProducerSelector]) -> None:
    if len(select) > MAX_SELECTORS:
        raise BadInput("too many selectors in a subscription", limit=MAX_SELECTORS)
