"""Requests of one peer of one room, as the SDK makes them: the shared request client, bound to the peer, with spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from opentelemetry.trace import SpanKind

from mafalda.aio.tasks import TaskScope
from mafalda.bus.protocol import PeerBus
from mafalda.client.config import ClientConfig
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.intents import ABOUT_THE_PEER, Intent, Join
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import Query, QueryTransport
from mafalda.contract.messages.results import TransportResult
from mafalda.errors import StaleGeneration, WorkerExited
from mafalda.session.requests import RequestClient, RequestTimes
from mafalda.telemetry.tracing import span

P = TypeVar("P", bound=Payload)


class PeerRequests:
    """Sends intents and queries of one peer. It is the ``PrivateAnswers`` of its own request client.

    Args:
        bus: Where they are published.
        tasks: Owns repeated appends and recoveries.
        reply_subject: The client's private inbox.
        room: The peer's room.
        peer: The peer.
        config: Limits.
    """

    def __init__(
        self, bus: PeerBus, tasks: TaskScope, reply_subject: str, room: str, peer: str, config: ClientConfig
    ) -> None:
        times = RequestTimes(
            timeout_s=config.request_timeout_s,
            retry_interval_s=config.retry_interval_s,
            inbox_wait_s=config.secrets_wait_s,
            query_timeout_s=config.request_timeout_s,
        )
        self._client = RequestClient(bus, tasks, reply_subject, f"/mafalda/client/{room}/{peer}", self, times)
        #: By which the peer's deadlines are counted: the bus's.
        self.clock = bus.clock
        self.room = room
        self.peer = peer
        #: Of the peer's place, as it is known; 0: none is. What is about objects of that place is done nowhere else.
        self.generation = 0

    async def request(
        self,
        intent: Intent,
        expected: type[P],
        *,
        timeout_s: float | None = None,
        stored: Callable[[], None] | None = None,
    ) -> P:
        """Append an intent and await its result; see ``RequestClient.request``.

        Raises:
            WorkerExited: The peer has another place by now, and the intent was about an object of the former one.
            MafaldaError: The intent is rejected, cannot be stored, or has no result in time.
        """
        outlasts_a_place = isinstance(intent, (*ABOUT_THE_PEER, Join))
        generation = None if outlasts_a_place else self.generation or None
        with span(
            f"client.{intent.action}",
            {"mafalda.room": self.room, "mafalda.peer": self.peer},
            kind=SpanKind.CLIENT,
        ):
            try:
                return await self._client.request(
                    self.room, self.peer, intent, expected, timeout_s=timeout_s, stored=stored, generation=generation
                )
            except StaleGeneration as stale:
                if generation is None:
                    raise
                raise WorkerExited("the peer has another place now", reason=str(stale)) from None

    async def query(self, query: Query, expected: type[P]) -> P:
        """Request something of the peer's agent that changes nothing.

        Raises:
            MafaldaError: The error that the agent answered, or there is no answer in time.
        """
        return await self._client.query(self.room, self.peer, query, expected)

    def take_stored(self, message: Message) -> None:
        """Take a result from the log. Those of an earlier client's requests are passed over."""
        self._client.take_stored(message)

    def take_private(self, message: Message) -> bool:
        """Take an answer from the client's inbox; ``False`` if it is another peer's."""
        return self._client.take_private(message)

    # --- private answers ------------------------------------------------------------------------------

    def is_complete(self, intent: Payload, stored: Payload) -> bool:
        """Whether a stored result is all that was asked for; a transport's lacks the ICE password."""
        return not isinstance(stored, TransportResult) or stored.ice_parameters is not None

    async def recover(self, room: str, peer: str, intent: Payload, stored: Payload) -> Payload:
        """A transport's parameters with the ICE password, from the agent.

        Raises:
            MafaldaError: The agent does not answer, or has no such transport.
        """
        assert isinstance(stored, TransportResult)
        return await self._client.query(room, peer, QueryTransport(transport=stored.transport), TransportResult)
