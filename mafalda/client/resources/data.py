"""Data producers and consumers: channels for messages into a room, and from its other peers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Literal

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.client.resources.reconnecting import ConsumerSource, ReconnectingConsumer, ReconnectingProducer
from mafalda.client.session.session import Session
from mafalda.client.webrtc.endpoint import Endpoint, new_id
from mafalda.client.webrtc.transport import ProducerOptions
from mafalda.contract.messages.intents import CloseDataConsumer, CloseDataProducer, Intent
from mafalda.contract.messages.results import ConsumeDataResult
from mafalda.errors import Broken, Closed, DeadlineExceeded

Data = bytes | str


class DataProducer(ReconnectingProducer):
    """Made by ``room.produce_data``. It has the same id at every placement."""

    stats_target: Literal["data-producer"] = "data-producer"

    def __init__(
        self, session: Session, options: ProducerOptions, *, label: str, protocol: str, reliability: dict[str, Any]
    ) -> None:
        super().__init__(session, f"data-producer-{options.id}")
        self.label = label
        self.protocol = protocol
        self._options = options
        self._reliability = reliability
        self._local: Any = None
        self._waiting: deque[Data] = deque()
        self._sent = asyncio.Event()

    @property
    def id(self) -> str:
        return self._options.id

    @property
    def buffered_bytes(self) -> int:
        """What SCTP has not sent yet, in bytes."""
        return int(self._local.bufferedAmount) if self._local is not None else 0

    def send(self, message: Data) -> None:
        """Send a message. While reconnecting it waits here, in order.

        What was on its way when a worker died is lost: mediasoup keeps nothing.

        Raises:
            Broken: Too many messages wait.
            Closed: The channel is closed.
        """
        self._check()
        if len(self._waiting) >= self._session.config.max_queued_messages:
            raise Broken("too many messages wait to be sent", waiting=len(self._waiting))
        self._waiting.append(message)
        self._sent.clear()
        self._flush()

    async def drain(self) -> None:
        """Wait until all that was sent has been handed to SCTP."""
        while self._waiting:
            self._check()
            await self._sent.wait()

    def _flush(self) -> None:
        if self._local is not None and not self._local.closed and self._local.readyState == "open":
            while self._waiting:
                self._local.send(self._waiting.popleft())
        if not self._waiting:
            self._sent.set()

    async def _open_at(self, endpoint: Endpoint) -> None:
        self._transport, self._local = await endpoint.produce_data(
            self._options, label=self.label, protocol=self.protocol, **self._reliability
        )
        self._local.on("open", self._flush)
        self._flush()

    async def _close_here(self) -> None:
        if self._transport is not None:
            await self._transport.stop_data(self._local)

    def _closing(self) -> CloseDataProducer:
        return CloseDataProducer(data_producer=self.id)

    def _ended(self) -> None:
        self._waiting.clear()
        self._sent.set()


class DataConsumer(ReconnectingConsumer, AsyncIterator[Data]):
    """Made by ``room.consume_data``. Iterate it for messages; it goes on over re-placements."""

    stats_target: Literal["data-consumer"] = "data-consumer"

    def __init__(self, session: Session, producer: str, *, source: ConsumerSource | None = None) -> None:
        super().__init__(session, f"data-consumer-of-{producer}", producer, source)
        self._id = new_id("data-consumer")
        self._messages: BoundedQueue[Data] = BoundedQueue(session.config.max_queued_messages, overflow="fail")
        self._result: ConsumeDataResult | None = None
        self._local: Any = None
        self._taken: Any = None  # the channel whose messages are taken

    @property
    def id(self) -> str:
        return self._id

    @property
    def label(self) -> str:
        """The producer's name for the channel."""
        return self._result.label if self._result else ""

    @property
    def protocol(self) -> str:
        """The producer's name for the form of its messages."""
        return self._result.protocol if self._result else ""

    @property
    def relayed(self) -> bool:
        """Whether the producer is on another worker than the peer."""
        return self._result is not None and self._result.relayed

    async def __anext__(self) -> Data:
        try:
            return await self._messages.take()
        except Closed:
            raise StopAsyncIteration from None

    async def _open_at(self, endpoint: Endpoint) -> None:
        await self._wait_for_producer()
        if self._source is None:
            self._id = new_id("data-consumer")
            self._transport, self._local, self._result = await endpoint.consume_data(self._id, self.producer_id)
        else:
            self._result = await self._source.data(self.producer_id, endpoint)
            self._id = self._result.data_consumer
            self._transport, self._local = await endpoint.attach_data(self._result)
        opened = asyncio.Event()
        self._local.on("open", opened.set)
        self._local.on("open", self._switch)
        if self._local.readyState == "open":
            self._switch()
        else:
            try:
                async with self._session.clock.timeout(self._session.config.ice_timeout_s):
                    await opened.wait()
            except TimeoutError:
                raise DeadlineExceeded("the data channel did not open", producer=self.producer_id) from None

    def _switch(self) -> None:
        """The present channel is open: take its messages, and no more of a former one that still works."""
        if self._taken is not None and self._taken is not self._local:
            self._taken.remove_listener("message", self._messages.put)
        if self._taken is not self._local:
            self._taken = self._local
            self._local.on("message", self._messages.put)

    async def _close_here(self) -> None:
        if self._transport is not None:
            await self._transport.stop_data(self._local)

    def _closing(self) -> Intent:
        return CloseDataConsumer(data_consumer=self._id)

    def _ended(self) -> None:
        self._messages.end(self._error)
