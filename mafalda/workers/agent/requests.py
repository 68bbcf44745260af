"""What other agents and operators request of this agent, and the notices of other agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.notices import AudioLevels, AudioLevelsWanted, RelayNotices
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    DrainServer,
    QueryDrain,
    QueryServer,
    ServerInventory,
    SetCarried,
)
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput, MalformedMessage
from mafalda.telemetry.tracing import handling
from mafalda.workers.agent.draining import ServerDrain
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.source_port import SourcePort

log = structlog.get_logger("mafalda.workers")


class AgentRequests:
    """Replies to requests.

    Args:
        server: This server's id.
        publisher: Composes replies.
        relay_sources: Serves the targets of relays.
        inventory: Takes the server's inventory.
        drain: The server's drain.
        receive_notices: Takes the notices about relayed producers.
        receive_levels: Takes the notices about the loudness of producers.
    """

    def __init__(
        self,
        server: str,
        publisher: Publisher,
        relay_sources: SourcePort,
        *,
        inventory: Callable[[], Awaitable[ServerInventory]],
        drain: ServerDrain,
        receive_notices: Callable[[RelayNotices], None],
        receive_levels: Callable[[AudioLevelsWanted | AudioLevels], None],
    ) -> None:
        self._server = server
        self._publisher = publisher
        self._relay_sources = relay_sources
        self._inventory = inventory
        self._drain = drain
        self._receive_notices = receive_notices
        self._receive_levels = receive_levels

    async def reply(self, delivery: Delivery) -> Message:
        """Reply to one request.

        Raises:
            MafaldaError: It is refused; the bus replies with the error.
        """
        _, message = read_message(delivery.subject, delivery.data)
        with handling(message, f"agent.{message.data.action}", {"mafalda.server": self._server}):
            reply = await self._handle(message.data)
            return self._publisher.reply(reply, delivery.reply or delivery.subject, message)

    async def _handle(self, request: Payload) -> Payload:
        match request:
            case ConnectPipe():
                return await self._relay_sources.connect_pipe(request)
            case CarryProducer():
                return await self._relay_sources.carry(request)
            case SetCarried():
                return await self._relay_sources.set_carried(request)
            case ClosePipe():
                return await self._relay_sources.close_pipe(request)
            case QueryServer():
                return await self._inventory()
            case DrainServer():
                return await self._drain.request(request)
            case QueryDrain():
                return self._drain.status()
        raise MalformedMessage("unknown request", action=request.action)

    async def read_notices(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take the notices of other agents, until cancelled."""
        async for delivery in deliveries:
            try:
                _, message = read_message(delivery.subject, delivery.data)
            except BadInput as error:
                log.warning("notice refused", action="notice_refused", subject=delivery.subject, reason=str(error))
                continue
            match message.data:
                case RelayNotices() as notices:
                    self._receive_notices(notices)
                case AudioLevelsWanted() | AudioLevels() as levels:
                    self._receive_levels(levels)
