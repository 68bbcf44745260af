"""WebRtcServers of applications: one virtual one, opened on each worker here that has transports of it.

The first of a server's workers that needs one has the ports that the application wanted; two processes cannot share
them, so the others have any, and the ICE candidates tell. What does not belong here: which worker gets a transport.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mafalda.errors import AlreadyExists, MafaldaError, NotFound
from mafalda.mediasoup.errors import WorkerRequestFailed
from mafalda.workers.passthrough.addresses import Info, any_port
from mafalda.workers.supervision.supervisor import LiveWorker, Supervisor


@dataclass(slots=True, eq=False)
class _Open:
    live: LiveWorker
    exact: bool
    is_home: bool = False
    users: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Shared:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    on: dict[str, _Open] = field(default_factory=dict)  # worker


class Listeners:
    """All of one agent's."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._shared: dict[str, _Shared] = {}

    async def open(self, id: str, infos: list[Info], live: LiveWorker) -> None:
        """Open one as the application wants it, so that it hears now if that cannot be.

        Raises:
            AlreadyExists: It is open.
            InvalidParameters: The worker says what is wrong.
            WorkerRequestFailed: A port is in use, or there is no such address.
        """
        shared = self._shared.setdefault(id, _Shared())
        async with shared.lock:
            if shared.on:
                raise AlreadyExists("a WebRtcServer with same webRtcServerId already exists", id=id)
            try:
                await self._open(shared, id, infos, live, exact=True)
            except MafaldaError:
                self._shared.pop(id, None)
                raise
            shared.on[live.id].is_home = True

    async def lease(self, id: str, infos: list[Info], live: LiveWorker, transport: str) -> None:
        """Have it on this worker, for a transport.

        Raises:
            WorkerRequestFailed: There is no port at all, or no such address.
        """
        shared = self._shared.setdefault(id, _Shared())
        async with shared.lock:
            self._forget_dead(shared)
            if live.id not in shared.on:
                await self._open_another(shared, id, infos, live)
            shared.on[live.id].users.add(transport)

    async def release(self, id: str, worker: str, transport: str) -> None:
        """A transport needs it no more."""
        shared = self._shared.get(id)
        if shared is None:
            return
        async with shared.lock:
            found = shared.on.get(worker)
            if found is None:
                return
            found.users.discard(transport)
            if not found.users and not found.is_home:
                await self._close(shared, id, worker)

    async def close(self, id: str) -> None:
        """The application has closed it: everywhere here."""
        shared = self._shared.get(id)
        if shared is None:
            return
        async with shared.lock:
            for worker in list(shared.on):
                await self._close(shared, id, worker)
        self._shared.pop(id, None)

    async def dump(self, id: str) -> dict[str, Any]:
        """Of all workers here, as one.

        Raises:
            NotFound: It is not open here.
        """
        shared = self._shared.get(id)
        if shared is None or not shared.on:
            raise NotFound("no such WebRtcServer", id=id)
        self._forget_dead(shared)
        merged: dict[str, Any] = {"id": id}
        for found in list(shared.on.values()):
            dump = await found.live.worker.request("WEBRTCSERVER_DUMP", id)
            for key, value in dump.items():
                if isinstance(value, list):
                    merged.setdefault(key, []).extend(value)
        return merged

    # --- inside -------------------------------------------------------------------------------------

    async def _open_another(self, shared: _Shared, id: str, infos: list[Info], live: LiveWorker) -> None:
        holder = next((found for found in shared.on.values() if found.exact), None)
        if holder is None:
            try:
                await self._open(shared, id, infos, live, exact=True)
            except WorkerRequestFailed:  # another server of this host has them
                await self._open(shared, id, [any_port(info) for info in infos], live, exact=False)
            return
        if holder.users:
            await self._open(shared, id, [any_port(info) for info in infos], live, exact=False)
            return
        # Nobody uses the ports that the application wanted: bring them to where they are used.
        await self._close(shared, id, holder.live.id)
        await self._open(shared, id, infos, live, exact=True)
        shared.on[live.id].is_home = holder.is_home

    async def _open(self, shared: _Shared, id: str, infos: list[Info], live: LiveWorker, *, exact: bool) -> None:
        body = {"webRtcServerId": id, "listenInfos": infos}
        await live.worker.request("WORKER_CREATE_WEBRTCSERVER", "", body)
        shared.on[live.id] = _Open(live, exact)

    async def _close(self, shared: _Shared, id: str, worker: str) -> None:
        found = shared.on.pop(worker)
        try:
            await found.live.worker.request("WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": id})
        except MafaldaError:
            return  # it went with its worker

    def _forget_dead(self, shared: _Shared) -> None:
        for worker in [worker for worker in shared.on if worker not in self._supervisor.alive]:
            del shared.on[worker]
