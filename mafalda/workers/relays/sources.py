"""The source side of relays: pipes out of this server's workers, and the producers that are sent over them.

It serves the requests of targets, on this server or another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from mafalda.aio.tasks import TaskScope
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import (
    CarryProducer,
    ClosePipe,
    ConnectPipe,
    Ok,
    PipeConnected,
    ProducerCarried,
    SetCarried,
)
from mafalda.errors import NotFound
from mafalda.mediasoup import PipeTransport, Router
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.layers import ALL_LAYERS
from mafalda.workers.relays.pipes import PipeKey, connect, create_end, describe
from mafalda.workers.relays.sideband import RelaySideband
from mafalda.workers.relays.source import RelaySource, Upstream
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import LiveWorker


@dataclass(slots=True, eq=False)
class _SourcePipe:
    """Our end of a pipe, the router that it is on, and what is sent over it, by producer."""

    end: PipeTransport
    router: Router
    sources: dict[str, RelaySource] = field(default_factory=dict)


class RelaySources:
    """All pipes out of this server's workers.

    Args:
        config: The server's id, ports, encryption.
        tasks: Where producers are opened and pipes closed.
        routers: The routers of this server's workers.
        upstream: The relay targets of this server.
        sideband: Carries what a pipe cannot.
        require_worker: The living worker with an id; raises ``WorkerExited`` if there is none.
        has_room: Whether a peer or a relay target of a room is on this server.
    """

    def __init__(
        self,
        config: AgentConfig,
        tasks: TaskScope,
        routers: Routers,
        upstream: Upstream,
        sideband: RelaySideband,
        *,
        require_worker: Callable[[str], LiveWorker],
        has_room: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._routers = routers
        self._upstream = upstream
        self._sideband = sideband
        self._require_worker = require_worker
        self._has_room = has_room
        self._pipes: dict[PipeKey, _SourcePipe] = {}
        self._locks: WeakValueDictionary[PipeKey, asyncio.Lock] = WeakValueDictionary()

    def count(self, worker: str) -> int:
        """How many producers a worker sends over pipes."""
        return sum(len(pipe.sources) for key, pipe in self._pipes.items() if key.source.worker == worker)

    def transports(self) -> list[PipeTransport]:
        """Every end."""
        return [pipe.end for pipe in self._pipes.values()]

    # --- requests of targets ------------------------------------------------------------------------

    async def connect_pipe(self, request: ConnectPipe) -> PipeConnected:
        """Make our end of a pipe. It replaces an older pipe between the same workers, which its target has closed.

        Raises:
            NotFound: Nothing of the room is on the source worker.
        """
        key = PipeKey(request.room, request.source, request.target)
        live = self._require_worker(key.source.worker)
        if self._routers.existing(key.room, live.id) is None:
            raise NotFound("nothing of the room is on this worker", room=key.room, worker=live.id)
        lock = self._lock(key)
        async with lock:
            await self._close(key)
            pipe = await self._open(key, live, request)
            if not self._has_room(key.room):  # the room has become idle meanwhile
                await self._close(key)
                raise NotFound("nothing of the room is on this worker any more", room=key.room, worker=live.id)
            return PipeConnected(end=describe(pipe.end))

    async def carry(self, request: CarryProducer) -> ProducerCarried:
        """Send a producer over a pipe. The same request again gets the same reply.

        Raises:
            NotFound: The source worker has no such producer, or no such pipe.
        """
        key = PipeKey(request.room, request.source, request.target)
        pipe = self._pipes.get(key)
        if pipe is None or pipe.end.closed:
            raise NotFound("no such pipe", room=request.room)
        source = pipe.sources.get(request.producer)
        if source is None:
            source = self._open_source(key, pipe, request)
        return await source.opened()

    async def set_carried(self, request: SetCarried) -> Ok:
        """Pause, resume or close what is sent.

        Raises:
            NotFound: It is not being sent; closing it succeeds all the same.
        """
        key = PipeKey(request.room, request.source, request.target)
        pipe = self._pipes.get(key)
        source = pipe.sources.get(request.producer) if pipe else None
        if source is not None:
            layer = ALL_LAYERS if request.spatial_layer is None else request.spatial_layer
            await source.set(request.wanted, layer)
        elif request.wanted != "closed":
            raise NotFound("this producer is not carried", producer=request.producer)
        return Ok()

    async def close_pipe(self, request: ClosePipe) -> Ok:
        """Close our end of a pipe, since the target has closed its own."""
        key = PipeKey(request.room, request.source, request.target)
        lock = self._lock(key)
        async with lock:
            await self._close(key)
        return Ok()

    # --- what the log requires ----------------------------------------------------------------------

    def stop(self, room: str, producer: str, worker: str, target: Place) -> None:
        """Close what is sent to a relay target that has ended."""
        pipe = self._pipes.get(PipeKey(room, Place(server=self._config.server, worker=worker), target))
        source = pipe.sources.get(producer) if pipe else None
        if source is not None:
            self._tasks.spawn(source.close(), f"stop carrying {producer}")

    def place_gone(self, place: Place) -> None:
        """Close the pipes to a worker that is dead, and forget those from it."""
        self._close_all(lambda key: place in (key.source, key.target))

    def room_gone(self, room: str) -> None:
        """Close the pipes of a room that has nothing here."""
        self._close_all(lambda key: key.room == room)

    def _open_source(self, key: PipeKey, pipe: _SourcePipe, request: CarryProducer) -> RelaySource:
        def remove(source: RelaySource) -> None:
            if pipe.sources.get(source.producer) is source:
                del pipe.sources[source.producer]

        source = RelaySource(key, request, pipe.end, pipe.router, self._upstream, self._sideband, remove)
        pipe.sources[request.producer] = source
        self._tasks.spawn(source.open(), f"carry {request.producer}")
        return source

    # --- pipes --------------------------------------------------------------------------------------

    async def _open(self, key: PipeKey, live: LiveWorker, request: ConnectPipe) -> _SourcePipe:
        router = await self._routers.acquire(key.room, live, key)
        end: PipeTransport | None = None
        try:
            end = await create_end(router, self._config, key, srtp=request.end.srtp_parameters is not None)
            await connect(end, request.end)
        except BaseException:
            try:
                if end is not None:
                    await end.close()
            finally:
                self._routers.release(key.room, live.id, key)
            raise
        pipe = self._pipes[key] = _SourcePipe(end, router)
        return pipe

    async def _close(self, key: PipeKey) -> None:
        pipe = self._pipes.pop(key, None)
        if pipe is None:
            return
        for source in list(pipe.sources.values()):
            source.end()  # what sends it closes with the pipe
        try:
            await pipe.end.close()
        finally:
            self._routers.release(key.room, key.source.worker, key)

    def _close_all(self, is_meant: Callable[[PipeKey], bool]) -> None:
        for key, pipe in [(key, pipe) for key, pipe in self._pipes.items() if is_meant(key)]:
            self._tasks.spawn(self._close_if_same(key, pipe), f"pipe from {key.source.worker} close")

    async def _close_if_same(self, key: PipeKey, pipe: _SourcePipe) -> None:
        """Close a pipe, unless another one between the same workers has replaced it."""
        lock = self._lock(key)
        async with lock:
            if self._pipes.get(key) is pipe:
                await self._close(key)

    def _lock(self, key: PipeKey) -> asyncio.Lock:
        """Opening and closing of one pipe do not overlap. Keep hold of the lock while it is used."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
