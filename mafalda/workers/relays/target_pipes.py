"""The target's ends of pipes: one for each room, source and target, while relay targets use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import structlog

from mafalda.aio.shared_resources import SharedResources
from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import ClosePipe, ConnectPipe
from mafalda.errors import MafaldaError, Refused, WorkerExited
from mafalda.mediasoup import DirectTransport, PipeTransport, SctpLimits
from mafalda.workers.config import AgentConfig
from mafalda.workers.relays.pipes import PipeKey, connect, create_end, describe, uses_srtp
from mafalda.workers.relays.source_port import PortOf
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import LiveWorker

#: A message may be as large as its sender's transport permits.
_ANY_SIZE = SctpLimits(max_send_message_size=2**30, max_receive_message_size=2**30)
#: For the source to confirm that it has closed its end of a pipe whose connection failed, in seconds.
_UNDO_WITHIN_S = 1.0
log = structlog.get_logger("mafalda.workers")


@dataclass(slots=True, eq=False)
class _TargetPipe:
    """Our end, and the direct transport next to it, once something needs that."""

    end: PipeTransport
    direct: DirectTransport | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TargetPipes:
    """All pipes into this server's workers.

    Args:
        config: Ports, encryption.
        tasks: Where pipes are made and closed.
        routers: The routers of this server's workers.
        require_worker: The living worker with an id; raises ``WorkerExited`` if there is none.
        port_of: The source side of a server's relays.
        is_alive: Whether a worker, of this server or another, is alive as far as is known.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        routers: Routers,
        *,
        require_worker: Callable[[str], LiveWorker],
        port_of: PortOf,
        is_alive: Callable[[Place], bool],
    ) -> None:
        self._config = config
        self._routers = routers
        self._require_worker = require_worker
        self._port_of = port_of
        self._is_alive = is_alive
        self._causes: dict[PipeKey, Message | None] = {}  # of the pipes that are being made
        self._pipes: SharedResources[PipeKey, _TargetPipe] = SharedResources(tasks, self._open, self._close)

    def transports(self) -> list[PipeTransport]:
        """Every end."""
        return [pipe.end for _, pipe in self._pipes.items()]

    def direct_transports(self) -> list[DirectTransport]:
        """Every direct transport next to an end."""
        return [pipe.direct for _, pipe in self._pipes.items() if pipe.direct]

    async def acquire(self, key: PipeKey, user: Hashable, *, cause: Message | None = None) -> PipeTransport:
        """Our end of a pipe, connected, until ``user`` releases it.

        Args:
            key: Which pipe.
            user: Who uses it.
            cause: The message that is the cause of the request to the source, if the pipe is to be made.

        Raises:
            MafaldaError: The source refuses or does not reply, or a worker does not make its end.
        """
        self._causes.setdefault(key, cause)
        try:
            return (await self._pipes.acquire(key, user)).end
        finally:
            self._causes.pop(key, None)

    async def acquire_direct(self, key: PipeKey) -> DirectTransport:
        """The direct transport next to a pipe that is acquired; it lives as long as the pipe.

        Raises:
            MafaldaError: The worker does not make it.
        """
        pipe, router = self._pipes.get(key), self._routers.existing(key.room, key.target.worker)
        if pipe is None or router is None:
            raise WorkerExited("the target worker is dead", worker=key.target.worker)
        async with pipe.lock:
            if pipe.direct is None:
                pipe.direct = await router.create_direct_transport(sctp_limits=_ANY_SIZE)
            return pipe.direct

    def release(self, key: PipeKey, user: Hashable) -> None:
        """``user`` needs the pipe no more; after the last one it is closed on both ends."""
        self._pipes.release(key, user)

    async def _open(self, key: PipeKey) -> _TargetPipe:
        live = self._require_worker(key.target.worker)
        if not self._is_alive(key.source):
            raise WorkerExited("the source worker is dead", worker=key.source.worker)
        router = await self._routers.acquire(key.room, live, key)
        end: PipeTransport | None = None
        try:
            end = await create_end(router, self._config, key, srtp=uses_srtp(self._config, key))
            await self._connect(key, end)
        except BaseException:
            try:
                if end is not None:
                    await end.close()
            finally:
                self._routers.release(key.room, live.id, key)
            raise
        return _TargetPipe(end)

    async def _connect(self, key: PipeKey, end: PipeTransport) -> None:
        request = ConnectPipe(
            room=key.room, source=key.source, target=key.target, end=describe(end), enable_rtx=not key.is_local
        )
        try:
            reply = await self._port_of(key.source.server, self._causes.get(key)).connect_pipe(request)
            await connect(end, reply.end)
        except Refused:  # the source has made nothing
            raise
        except MafaldaError:  # the source may have made its end all the same
            try:
                async with asyncio.timeout(_UNDO_WITHIN_S):
                    await self._close_source(key)
            except TimeoutError:
                log.warning("pipe not closed at its source", action="close_pipe_failed", room_id=key.room)
            raise

    async def _close(self, key: PipeKey, pipe: _TargetPipe) -> None:
        try:
            for transport in (pipe.direct, pipe.end):
                if transport is not None:
                    await transport.close()
        finally:
            self._routers.release(key.room, key.target.worker, key)
        await self._close_source(key)

    async def _close_source(self, key: PipeKey) -> None:
        if not self._is_alive(key.source):
            return
        request = ClosePipe(room=key.room, source=key.source, target=key.target)
        try:
            await self._port_of(key.source.server, None).close_pipe(request)
        except MafaldaError as error:  # the source closes it when the room or the target's worker is gone
            log.warning(
                "pipe not closed at its source", action="close_pipe_failed", room_id=key.room, reason=str(error)
            )
