"""What a relay's target requests of its source, on this server by a call, on another by a message to its agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    Ok,
    PipeConnected,
    ProducerCarried,
    SetCarried,
)
from mafalda.workers.log.publisher import Publisher

R = TypeVar("R", bound=Payload)


class SourcePort(Protocol):
    """The source side of the relays of one server."""

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected: ...

    async def carry(self, request: CarryProducer) -> ProducerCarried: ...

    async def set_carried(self, request: SetCarried) -> Ok: ...

    async def close_pipe(self, request: ClosePipe) -> Ok: ...


#: The source side of a server's relays, by the server's id, and the message that is the cause of what is requested.
PortOf = Callable[[str, Message | None], SourcePort]


class RemoteSource:
    """The source side on another server.

    Args:
        publisher: Sends the requests.
        server: The other server's id.
        timeout_s: For each request, in seconds.
        cause: The message that is the cause of the requests.
    """

    def __init__(self, publisher: Publisher, server: str, timeout_s: float, cause: Message | None) -> None:
        self._publisher = publisher
        self._server = server
        self._timeout_s = timeout_s
        self._cause = cause

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected:
        return await self._request(request, PipeConnected)

    async def carry(self, request: CarryProducer) -> ProducerCarried:
        return await self._request(request, ProducerCarried)

    async def set_carried(self, request: SetCarried) -> Ok:
        return await self._request(request, Ok)

    async def close_pipe(self, request: ClosePipe) -> Ok:
        return await self._request(request, Ok)

    async def _request(self, request: Payload, reply: type[R]) -> R:
        return await self._publisher.request(self._server, request, reply, timeout_s=self._timeout_s, cause=self._cause)
