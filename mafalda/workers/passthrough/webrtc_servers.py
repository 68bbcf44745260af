"""WebRtcServers of applications, each opened on every worker of this server that has transports of it.

Two processes cannot share a port. The first worker that needs a WebRtcServer gets the ports that the application chose,
the others get any free ones; ICE candidates name the actual ports.

``mafalda.aio.SharedResources`` does not fit: the chosen ports move from a worker without transports to a worker that
needs them, so opening an instance may close another one, under one lock for all instances of a WebRtcServer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mafalda.errors import AlreadyExists, MafaldaError, NotFound
from mafalda.mediasoup.errors import WorkerRequestFailed
from mafalda.workers.passthrough.addresses import Info, any_port
from mafalda.workers.supervision.supervisor import LiveWorker, WorkerSupervisor


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who has opened a WebRtcServer, and the worker on which."""

    owner: object
    worker: str


@dataclass(slots=True, eq=False)
class _Instance:
    """A WebRtcServer on one worker."""

    live: LiveWorker
    exact: bool  # whether it has the ports that the application chose
    owner: _Owner | None = None  # while there is one, it stays open without transports
    transports: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Shared:
    """A WebRtcServer of an application."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    instances: dict[str, _Instance] = field(default_factory=dict)  # by worker


class SharedWebRtcServers:
    """The WebRtcServers of all applications on one server's workers.

    Args:
        supervisor: Knows which workers live.
    """

    def __init__(self, supervisor: WorkerSupervisor) -> None:
        self._supervisor = supervisor
        self._shared: dict[str, _Shared] = {}

    async def open(self, id: str, infos: list[Info], live: LiveWorker, owner: object) -> None:
        """Open a WebRtcServer on one worker, and keep it open there until its owner closes it.

        It may be open on other workers for their transports, after the death of the worker where it was opened before.

        Args:
            id: The application's id of it.
            infos: Where it listens, in the shape of the worker's schema.
            live: The worker.
            owner: Who closes it.

        Raises:
            AlreadyExists: The worker has one with this id, of another owner.
            InvalidParameters: The worker refuses the listen infos.
            WorkerRequestFailed: A port is in use, or the server has no such address.
        """
        async with self._locked(id) as shared:
            found = shared.instances.get(live.id)
            if found is not None and found.owner is not None and found.owner.worker in self._supervisor.alive:
                raise AlreadyExists("a WebRtcServer with same webRtcServerId already exists", id=id)
            if not shared.instances:
                await self._open(shared, id, infos, live, exact=True)
            elif found is None:
                await self._open_another(shared, id, infos, live)
            shared.instances[live.id].owner = _Owner(owner, live.id)

    async def lease(self, id: str, infos: list[Info], live: LiveWorker, transport: str) -> None:
        """Open a WebRtcServer on a worker, if it is not, for one transport.

        Args:
            id: The application's id of it.
            infos: Where it listens, in the shape of the worker's schema.
            live: The worker.
            transport: The transport's id.

        Raises:
            WorkerRequestFailed: No port is free, or the server has no such address.
        """
        async with self._locked(id) as shared:
            if live.id not in shared.instances:
                await self._open_another(shared, id, infos, live)
            shared.instances[live.id].transports.add(transport)

    async def release(self, id: str, worker: str, transport: str) -> None:
        """Close a WebRtcServer on a worker when its last transport there has closed."""
        async with self._locked(id) as shared:
            found = shared.instances.get(worker)
            if found is None:
                return
            found.transports.discard(transport)
            await self._close_unused(shared, id)

    async def close(self, id: str, owner: object) -> None:
        """End ``open``: close a WebRtcServer on each worker as soon as it has no transports there.

        The owner ends when the application has closed the WebRtcServer, whose transports close with it, and when the
        owner's worker has died, which concerns no transport on another worker.
        """
        async with self._locked(id) as shared:
            for found in shared.instances.values():
                if found.owner is not None and found.owner.owner is owner:
                    found.owner = None
            await self._close_unused(shared, id)

    async def dump(self, id: str) -> dict[str, Any]:
        """The dumps of a WebRtcServer on all workers, with their lists joined.

        Raises:
            NotFound: It is open on no worker of this server.
        """
        shared = self._shared.get(id)
        if shared is not None:
            self._forget_dead(shared)
        if shared is None or not shared.instances:
            raise NotFound("no such WebRtcServer", id=id)
        merged: dict[str, Any] = {"id": id}
        for found in list(shared.instances.values()):
            dump = await found.live.worker.request("WEBRTCSERVER_DUMP", id, None)
            for key, value in dump.items():
                if isinstance(value, list):
                    merged.setdefault(key, []).extend(value)
        return merged

    # --- instances -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _locked(self, id: str) -> AsyncIterator[_Shared]:
        """The instances on living workers of one WebRtcServer, for one user at a time; removed when empty."""
        while True:
            shared = self._shared.setdefault(id, _Shared())
            async with shared.lock:
                if self._shared.get(id) is not shared:
                    continue  # forgotten while this waited
                self._forget_dead(shared)
                try:
                    yield shared
                finally:
                    if not shared.instances:
                        del self._shared[id]
            return

    async def _open_another(self, shared: _Shared, id: str, infos: list[Info], live: LiveWorker) -> None:
        holder = next((found for found in shared.instances.values() if found.exact), None)
        if holder is None:
            try:
                await self._open(shared, id, infos, live, exact=True)
            except WorkerRequestFailed:  # another process of this host has the ports
                await self._open(shared, id, [any_port(info) for info in infos], live, exact=False)
            return
        if holder.transports:
            await self._open(shared, id, [any_port(info) for info in infos], live, exact=False)
            return
        # The chosen ports are held by a worker without transports: move them to this one.
        await self._close(shared, id, holder.live.id)
        await self._open(shared, id, infos, live, exact=True)
        shared.instances[live.id].owner = holder.owner

    async def _open(self, shared: _Shared, id: str, infos: list[Info], live: LiveWorker, *, exact: bool) -> None:
        body = {"webRtcServerId": id, "listenInfos": infos}
        await live.worker.request("WORKER_CREATE_WEBRTCSERVER", "", body)
        shared.instances[live.id] = _Instance(live, exact)

    async def _close_unused(self, shared: _Shared, id: str) -> None:
        for worker, found in list(shared.instances.items()):
            if not found.transports and found.owner is None:
                await self._close(shared, id, worker)

    async def _close(self, shared: _Shared, id: str, worker: str) -> None:
        found = shared.instances.pop(worker)
        try:
            await found.live.worker.request("WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": id})
        except MafaldaError:
            return  # it closed with its worker

    def _forget_dead(self, shared: _Shared) -> None:
        for worker in [worker for worker in shared.instances if worker not in self._supervisor.alive]:
            del shared.instances[worker]
