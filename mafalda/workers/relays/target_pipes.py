"""The target's ends of pipes: one for each room, source and target, while mirrors use it.

What does not belong here: what is produced on them (``mirrors``), the source's side (``sources``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    Ok,
    PipeConnected,
    ProducerCarried,
    SetCarried,
)
from mafalda.errors import MafaldaError, WorkerDied
from mafalda.mediasoup import DirectTransport, PipeTransport, SctpLimits
from mafalda.workers.config import AgentConfig
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.pipes import Locks, PipeKey, SourcePort, describe, join, make_end, wants_srtp
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import Supervisor

A = TypeVar("A", bound=Payload)
#: A message is as large as its sender's transport let it be.
_ANY_SIZE = SctpLimits(max_send_message_size=2**30, max_receive_message_size=2**30)
PortOf = Callable[[str, Message | None], SourcePort]
log = structlog.get_logger("mafalda.workers")


class RemoteSource:
    """The source's side on another server."""

    def __init__(self, publisher: Publisher, server: str, timeout_s: float, cause: Message | None) -> None:
        self._publisher = publisher
        self._server = server
        self._timeout_s = timeout_s
        self._cause = cause

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected:
        return await self._ask(request, PipeConnected)

    async def carry(self, request: CarryProducer) -> ProducerCarried:
        return await self._ask(request, ProducerCarried)

    async def set_carried(self, request: SetCarried) -> Ok:
        return await self._ask(request, Ok)

    async def close_pipe(self, request: ClosePipe) -> Ok:
        return await self._ask(request, Ok)

    async def _ask(self, request: Payload, answer: type[A]) -> A:
        return await self._publisher.request(
            self._server, request, answer, timeout_s=self._timeout_s, cause=self._cause
        )


@dataclass(slots=True, eq=False)
class _Pipe:
    end: PipeTransport | None = None
    direct: DirectTransport | None = None
    users: set[Hashable] = field(default_factory=set)


class TargetPipes:
    """All pipes into this server's workers.

    Args:
        config: Ports, encryption.
        tasks: Where sources are told of pipes that came to nothing.
        supervisor: The workers.
        routers: Their routers.
        port_of: The source's side on a server, asked because of some message.
        lives: Whether a worker, here or elsewhere, is alive as far as is known.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        supervisor: Supervisor,
        routers: Routers,
        *,
        port_of: PortOf,
        lives: Callable[[Place], bool],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._supervisor = supervisor
        self._routers = routers
        self._port_of = port_of
        self._lives = lives
        self._pipes: dict[PipeKey, _Pipe] = {}
        self._locks = Locks()

    def transports(self) -> list[tuple[str, PipeTransport]]:
        """Every end, by its worker."""
        return [(key.target.worker, pipe.end) for key, pipe in self._pipes.items() if pipe.end]

    def direct_transports(self) -> list[DirectTransport]:
        """What there is beside the ends."""
        return [pipe.direct for pipe in self._pipes.values() if pipe.direct]

    async def acquire(self, key: PipeKey, user: Hashable, *, cause: Message | None = None) -> PipeTransport:
        """Our end of a pipe, connected. ``user`` has to release it afterwards, whether this succeeds or not.

        Raises:
            MafaldaError: The source refuses or does not answer, or a worker does not make its end.
        """
        pipe = self._pipes.setdefault(key, _Pipe())
        pipe.users.add(user)
        lock = self._locks.of(key)
        async with lock:
            if pipe.end is None or pipe.end.closed:
                pipe.end = await self._connect(key, cause)
            return pipe.end

    async def acquire_direct(self, key: PipeKey) -> DirectTransport:
        """Where what a pipe cannot carry comes in beside it; there as long as the pipe, which has been acquired."""
        lock = self._locks.of(key)
        async with lock:
            pipe, router = self._pipes[key], self._routers.existing(key.room, key.target.worker)
            if router is None:
                raise WorkerDied("the target worker is dead", worker=key.target.worker)
            if pipe.direct is None or pipe.direct.closed:
                pipe.direct = await router.create_direct_transport(sctp_limits=_ANY_SIZE)
            return pipe.direct

    async def release(self, key: PipeKey, user: Hashable) -> None:
        """``user`` needs the pipe no more; after the last one it is closed on both ends."""
        pipe = self._pipes.get(key)
        if pipe is None or user not in pipe.users:
            return
        pipe.users.discard(user)
        lock = self._locks.of(key)
        async with lock:
            if pipe.users or self._pipes.get(key) is not pipe:
                return
            del self._pipes[key]
            if pipe.end is None:
                return
            try:
                for transport in (pipe.direct, pipe.end):
                    if transport is not None:
                        await transport.close()
            finally:
                self._routers.release(key.room, key.target.worker, key)
            await self._tell(key)

    async def _connect(self, key: PipeKey, cause: Message | None) -> PipeTransport:
        live = self._supervisor.require(key.target.worker)
        if not self._lives(key.source):
            raise WorkerDied("the source worker is dead", worker=key.source.worker)
        router = await self._routers.acquire(key.room, live, key)
        end: PipeTransport | None = None
        try:
            end = await make_end(router, self._config, key, srtp=wants_srtp(self._config, key))
            request = ConnectPipe(
                room=key.room,
                source=key.source,
                target=key.target,
                end=describe(end),
                enable_rtx=not key.is_local,
            )
            answer = await self._port_of(key.source.server, cause).connect_pipe(request)
            await join(end, answer.end)
        except BaseException:
            if end is not None:
                await end.close()
            self._routers.release(key.room, live.id, key)
            self._tasks.spawn(self._tell_unless_there(key), "pipe that came to nothing")
            raise
        return end

    async def _tell_unless_there(self, key: PipeKey) -> None:
        """The source may have made its end all the same: its answer came too late, or nobody waited for it."""
        lock = self._locks.of(key)
        async with lock:
            pipe = self._pipes.get(key)
            if pipe is None or pipe.end is None:
                await self._tell(key)

    async def _tell(self, key: PipeKey) -> None:
        if not self._lives(key.source):
            return
        request = ClosePipe(room=key.room, source=key.source, target=key.target)
        try:
            await self._port_of(key.source.server, None).close_pipe(request)
        except MafaldaError as error:  # the source closes it when the room or the place is gone
            log.warning(
                "source not told of a closed pipe", action="close_pipe_failed", room_id=key.room, reason=str(error)
            )
