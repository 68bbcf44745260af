"""Appends of intents: what one peer requests in one turn of the event loop is one message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mafalda.aio.tasks import TaskScope
from mafalda.bus.compose import compose
from mafalda.bus.protocol import PeerBus
from mafalda.contract import subjects
from mafalda.contract.batches import NEVER_BATCHED, batched_intent
from mafalda.contract.messages.batches import MAX_BATCHED
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.intents import IntentBatch
from mafalda.errors import Closed, MafaldaError, MessageTooLarge

_Peer = tuple[str, str]  # room, peer


class Flight:
    """Intents of one peer that are appended together.

    Args:
        headers: Of the message, or of each.

    Attributes:
        messages: The intents' own, in order.
        batch: The message that holds them; ``None``: each is appended by itself.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.messages: list[Message] = []
        self.batch: Message | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._errors: dict[str, MafaldaError] = {}
        self._is_appending = False

    async def stored(self, id: str) -> None:
        """Return when one of the intents is in the log.

        Args:
            id: The intent's.

        Raises:
            MafaldaError: It could not be stored.
        """
        await asyncio.shield(self._ended)
        if id in self._errors:
            raise self._errors[id]

    async def append(self, bus: PeerBus) -> None:
        """Append the intents; what cannot be stored has its error."""
        try:
            if self.batch is not None:
                await self.append_batch(bus)
        except MessageTooLarge:
            self.batch = None
        except MafaldaError as error:
            self._errors = dict.fromkeys((message.id for message in self.messages), error)
        for message in self.messages if self.batch is None else ():
            try:
                await bus.append(message.subject or "", message, headers=self.headers)
            except MafaldaError as error:
                self._errors[message.id] = error

    async def append_batch(self, bus: PeerBus) -> None:
        """Append the batch, unless that is under way.

        Raises:
            MafaldaError: It could not be stored.
        """
        if self._is_appending or self.batch is None:
            return
        self._is_appending = True
        try:
            await bus.append(self.batch.subject or "", self.batch, headers=self.headers)
        finally:
            self._is_appending = False

    def end(self) -> None:
        """Each intent is in the log, or has its error."""
        if not self._ended.done():
            self._ended.set_result(None)

    def abandon(self) -> None:
        """Nothing of it is appended any more."""
        if not self._ended.done():
            closed = Closed("the connection was closed before the intent was stored")
            self._errors = dict.fromkeys((message.id for message in self.messages), closed)
            self._ended.set_result(None)


class IntentFlights:
    """Gathers intents into flights.

    Args:
        bus: Where they are appended.
        tasks: Runs the appends.
        source: The CloudEvents source of batches.
    """

    def __init__(self, bus: PeerBus, tasks: TaskScope, source: str) -> None:
        self._bus = bus
        self._tasks = tasks
        self._source = source
        self._open: dict[_Peer, Flight] = {}
        self._is_batching = True

    def add(self, room: str, peer: str, message: Message, headers: Mapping[str, str]) -> Flight:
        """Append an intent together with what the peer requests before control returns to the event loop.

        Intents with other headers, such as those that are meant for one place, are in another message.

        Args:
            room: The peer's room.
            peer: The peer.
            message: The intent.
            headers: Of the NATS message.
        """
        key = (room, peer)
        is_alone = not self._is_batching or isinstance(message.data, NEVER_BATCHED)
        if is_alone:
            self._depart(key)
        flight = self._open.get(key)
        if flight is not None and flight.headers != headers:
            self._depart(key)
            flight = None
        if flight is None:
            flight = self._open[key] = Flight(headers)
            asyncio.get_running_loop().call_soon(self._depart, key, flight)
        flight.messages.append(message)
        if is_alone or len(flight.messages) == MAX_BATCHED:
            self._depart(key)
        return flight

    async def append_again(self, flight: Flight, message: Message) -> None:
        """Append an intent again, in the same message as before: the log stores that once.

        Args:
            flight: In which it was appended.
            message: The intent.

        Raises:
            MafaldaError: It could not be stored.
        """
        if self._is_batching and flight.batch is not None:
            await flight.append_batch(self._bus)
        else:
            await self._bus.append(message.subject or "", message, headers=flight.headers)

    def stop_batching(self) -> None:
        """Append each intent by itself from now on: the servers know no batches."""
        self._is_batching = False

    def _depart(self, key: _Peer, only: Flight | None = None) -> None:
        """Append the flight that is open, if it is this one."""
        flight = self._open.get(key)
        if flight is None or only not in (None, flight):
            return
        del self._open[key]
        if len(flight.messages) > 1:
            batch = IntentBatch.model_construct(items=[batched_intent(it) for it in flight.messages])
            flight.batch = compose(batch, subject=subjects.intent(*key, batch.action), source=self._source)
        task = self._tasks.spawn(self._append(flight), f"append of {key[1]}")
        task.add_done_callback(lambda _: flight.abandon())

    async def _append(self, flight: Flight) -> None:
        await flight.append(self._bus)
        flight.end()
