"""Transports that are requested in one flight with the join, before the peer's place is known."""

from __future__ import annotations

import asyncio
import secrets
from typing import Literal, NamedTuple

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.client.requests import PeerRequests
from mafalda.client.webrtc.transport import Direction, create_transport
from mafalda.contract.messages.results import TransportResult
from mafalda.errors import MafaldaError

TransportsToOpen = Literal["both", "send", "receive", "none"]
_DIRECTIONS: dict[TransportsToOpen, tuple[Direction, ...]] = {
    "both": ("send", "receive"),
    "send": ("send",),
    "receive": ("receive",),
    "none": (),
}
_log = structlog.get_logger(__name__)


class TransportAhead(NamedTuple):
    """A transport that the worker has already."""

    id: str
    result: TransportResult


class TransportsAhead:
    """What was requested ahead, by direction. Each is taken once, by the endpoint at the place where it is.

    Args:
        requests: The peer's.
        tasks: Owns the requests.
    """

    def __init__(self, requests: PeerRequests, tasks: TaskScope) -> None:
        self._requests = requests
        self._tasks = tasks
        self._requested: dict[Direction, asyncio.Task[TransportAhead | None]] = {}

    def request(self, wanted: TransportsToOpen) -> None:
        """Request a transport for each direction that is wanted."""
        for direction in _DIRECTIONS[wanted]:
            work = self._request(direction, f"{direction}-{secrets.token_hex(8)}")
            self._requested[direction] = self._tasks.spawn(work, f"{direction} transport ahead")

    async def take(self, direction: Direction, generation: int) -> TransportAhead | None:
        """The transport, if one was requested and is at the place of this generation."""
        if (task := self._requested.pop(direction, None)) is None:
            return None
        ahead = await task
        return ahead if ahead is not None and ahead.result.generation == generation else None

    async def _request(self, direction: Direction, id: str) -> TransportAhead | None:
        try:
            return TransportAhead(id, await create_transport(self._requests, direction, id))
        except MafaldaError as error:  # the endpoint requests one when it needs it, and reports what is wrong then
            _log.info("no transport ahead", action="client_create_transport", direction=direction, reason=str(error))
            return None
