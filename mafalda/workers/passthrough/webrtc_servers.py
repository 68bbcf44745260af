"""WebRtcServers of applications, each opened on every worker of this server that has transports of it.

Two processes cannot share a port. The first worker that needs a WebRtcServer gets the ports that the application chose,
the others get any free ones; ICE candidates name the actual ports.

``mafalda.aio.SharedResources`` does not fit: the chosen ports move from a worker without transports to a worker that
needs them, so opening an instance may close another one, under one lock for all instances of a WebRtcServer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mafalda.errors import AlreadyExists, MafaldaError, NotFound
from mafalda.mediasoup.errors import WorkerRequestFailed
from mafalda.workers.passthrough.addresses import Info, any_port
from mafalda.workers.supervision.supervisor import LiveWorker, WorkerSupervisor


@dataclass(slots=True, eq=False)
class _Instance:
    """A WebRtcServer on one worker."""

    live: LiveWorker
    exact: bool  # whether it has the ports that the application chose
    is_permanent: bool = False  # stays open without transports, until the application closes the WebRtcServer
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

    async def open(self, id: str, infos: list[Info], live: LiveWorker) -> None:
        """Open a new WebRtcServer on one worker, on the ports that the application chose.

        Args:
            id: The application's id of it.
            infos: Where it listens, in the shape of the worker's schema.
            live: The worker.

        Raises:
            AlreadyExists: There is one with this id.
            InvalidParameters: The worker refuses the listen infos.
            WorkerRequestFailed: A port is in use, or the server has no such address.
        """
        shared = self._shared.setdefault(id, _Shared())
        async with shared.lock:
            if shared.instances:
                raise AlreadyExists("a WebRtcServer with same webRtcServerId already exists", id=id)
            try:
                await self._open(shared, id, infos, live, exact=True)
            except MafaldaError:
                self._shared.pop(id, None)
                raise
            shared.instances[live.id].is_permanent = True

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
        shared = self._shared.setdefault(id, _Shared())
        async with shared.lock:
            self._forget_dead(shared)
            if live.id not in shared.instances:
                await self._open_another(shared, id, infos, live)
            shared.instances[live.id].transports.add(transport)

    async def release(self, id: str, worker: str, transport: str) -> None:
        """Close a WebRtcServer on a worker when its last transport there has closed."""
        shared = self._shared.get(id)
        if shared is None:
            return
        async with shared.lock:
            found = shared.instances.get(worker)
            if found is None:
                return
            found.transports.discard(transport)
            if not found.transports and not found.is_permanent:
                await self._close(shared, id, worker)

    async def close(self, id: str) -> None:
        """Close a WebRtcServer on all workers, because the application has closed it."""
        shared = self._shared.get(id)
        if shared is None:
            return
        async with shared.lock:
            for worker in list(shared.instances):
                await self._close(shared, id, worker)
        self._shared.pop(id, None)

    async def dump(self, id: str) -> dict[str, Any]:
        """The dumps of a WebRtcServer on all workers, with their lists joined.

        Raises:
            NotFound: It is open on no worker of this server.
        """
        shared = self._shared.get(id)
        if shared is None or not shared.instances:
            raise NotFound("no such WebRtcServer", id=id)
        self._forget_dead(shared)
        merged: dict[str, Any] = {"id": id}
        for found in list(shared.instances.values()):
            dump = await found.live.worker.request("WEBRTCSERVER_DUMP", id, None)
            for key, value in dump.items():
                if isinstance(value, list):
                    merged.setdefault(key, []).extend(value)
        return merged

    # --- instances -------------------------------------------------------------------------------------

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
        shared.instances[live.id].is_permanent = holder.is_permanent

    async def _open(self, shared: _Shared, id: str, infos: list[Info], live: LiveWorker, *, exact: bool) -> None:
        body = {"webRtcServerId": id, "listenInfos": infos}
        await live.worker.request("WORKER_CREATE_WEBRTCSERVER", "", body)
        shared.instances[live.id] = _Instance(live, exact)

    async def _close(self, shared: _Shared, id: str, worker: str) -> None:
        found = shared.instances.pop(worker)
        try:
            await found.live.worker.request("WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": id})
        except MafaldaError:
            return  # it closed with its worker

    def _forget_dead(self, shared: _Shared) -> None:
        for worker in [worker for worker in shared.instances if worker not in self._supervisor.alive]:
            del shared.instances[worker]
