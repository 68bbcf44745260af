"""The drain of a server: what it announces, how far it is, and whether another server could take its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy

import structlog

from mafalda.contract.messages.queries import DrainServer, DrainStatus
from mafalda.errors import MafaldaError
from mafalda.workers.core import Machine
from mafalda.workers.core.drain import AnnounceDrain, Drain

log = structlog.get_logger("mafalda.workers")

#: How often the number of peers and the deadline are looked at, in seconds.
_STEP_S = 0.1


class ServerDrain:
    """Runs the drain's state machine.

    Args:
        machine: Knows the peers placed here, and the other servers.
        announce: Appends ``ServerDraining``; raises ``MafaldaError`` if it cannot.
    """

    def __init__(self, machine: Machine, announce: Callable[[AnnounceDrain], Awaitable[None]]) -> None:
        self._machine = machine
        self._announce = announce
        self._drain = Drain()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """Announce when the deadline has passed, and notice when no peer is left, until cancelled."""
        while True:
            if self._drain.state != "up":
                try:
                    await self._advance()
                except MafaldaError as error:  # announced again at the next step
                    fields = {"server_id": self._machine.server, "reason": str(error)}
                    log.error("drain not announced", action="drain_not_announced", **fields)
            await asyncio.sleep(_STEP_S)

    async def request(self, request: DrainServer) -> DrainStatus:
        """Begin or cancel the drain; returns when it is in the log.

        Raises:
            MafaldaError: It cannot be appended; the drain is as before.
        """
        before = copy(self._drain)
        order = self._drain.request(request.deadline_s, _now()) if request.draining else self._drain.cancel()
        if order is not None:
            await self._publish(order, before)
        await self._advance()
        return self.status()

    def status(self) -> DrainStatus:
        """How far it is."""
        placed = self._machine.placed_peers()
        return DrainStatus(
            server=self._machine.server,
            state=self._drain.state,
            peers=len(placed),
            leaving=self._machine.count_handed_over(),
            unmovable=sum(command.one_transport for command in placed),
            deadline_in_s=self._drain.deadline_in_s(_now()),
        )

    async def leave(self, grace_s: float) -> None:
        """Drain before the agent stops; returns when no peer is left, after ``grace_s`` seconds, or without a target.

        Whatever is still here when the agent stops is placed elsewhere by the allocators, after a gap.
        """
        fields = {"server_id": self._machine.server, "peers": len(self._machine.placed_peers())}
        if not grace_s or not self._machine.placed_peers():
            return
        if not self.has_targets():
            log.warning("no other server could take the peers; stopping", action="drain_impossible", **fields)
            return
        try:
            async with asyncio.timeout(grace_s):
                await self.request(DrainServer(deadline_s=grace_s))
                while not self._drained.is_set():
                    if not self.has_targets():
                        log.warning("no other server is left to take the peers", action="drain_impossible", **fields)
                        return
                    await asyncio.sleep(_STEP_S)
        except TimeoutError:
            left = self.status()
            log.warning("not drained in time", action="drain_late", **(fields | {"peers": left.peers + left.leaving}))

    def has_targets(self) -> bool:
        """Whether there is a server that might take this one's peers: it is up, is not draining, and has workers."""
        return any(
            server.status == "up" and server.workers
            for server in self._machine.state.servers.values()
            if server.server != self._machine.server
        )

    async def _advance(self) -> None:
        before = copy(self._drain)
        order = self._drain.advance(len(self._machine.placed_peers()) + self._machine.count_handed_over(), _now())
        if self._drain.state == "drained":
            self._drained.set()
            if before.state != "drained":
                log.info("server drained", action="server_drained", server_id=self._machine.server)
        else:
            self._drained.clear()
        if order is not None:
            await self._publish(order, before)

    async def _publish(self, order: AnnounceDrain, before: Drain) -> None:
        log.info(
            "server draining" if order.draining else "drain cancelled",
            action="server_draining",
            server_id=self._machine.server,
            draining=order.draining,
            deadline_s=order.deadline_s,
            forced=order.force,
        )
        try:
            await self._announce(order)
        except MafaldaError:
            self._drain = before
            raise


def _now() -> float:
    return asyncio.get_running_loop().time()
