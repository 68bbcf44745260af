"""Requests for the worker itself, and for its WebRtcServers: each of these is a peer of a room of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mafalda.contract.ids import check_id
from mafalda.contract.messages.intents import RequestChannel
from mafalda.dropin.fleet.addresses import HostAddresses
from mafalda.dropin.fleet.answers import Refusal, wrong
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.dropin.process.settings import WorkerSettings, WrongSettings, check_log_level
from mafalda.dropin.virtual.handlers import dumps
from mafalda.dropin.virtual.handlers.listen_infos import with_ports
from mafalda.dropin.virtual.handlers.routers import RouterRequests
from mafalda.dropin.virtual.handlers.waiting import WaitingRequests
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Node, Objects
from mafalda.dropin.virtual.sessions import Sessions
from mafalda.dropin.virtual.worker_logs import WorkerLogRequests


class WorkerRequests:
    """Handles ``WORKER_*`` and ``WEBRTCSERVER_*``, except for the routers'.

    Args:
        settings: What the worker was started with; a request may change them.
        pid: Of the process that the library spawned.
        objects: All of the application's.
        sessions: Their sessions.
        routers: Which are being made, for a dump.
        waiting: Runs what cannot be answered at once.
        logs: Follows the log of the real workers.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        pid: int,
        objects: Objects,
        sessions: Sessions,
        routers: RouterRequests,
        waiting: WaitingRequests,
        logs: WorkerLogRequests,
    ) -> None:
        self._logs = logs
        self._settings = settings
        self._pid = pid
        self._addresses = HostAddresses()
        self._objects = objects
        self._sessions = sessions
        self._routers = routers
        self.handlers: dict[str, Callable[[LibraryRequest], Any]] = {
            "WORKER_DUMP": lambda it: waiting.run(it, self._dump_worker),
            "WORKER_GET_RESOURCE_USAGE": lambda it: waiting.run(it, self._dump_usage),
            "WORKER_UPDATE_SETTINGS": lambda it: waiting.run(it, self._update_settings),
            "WORKER_CREATE_WEBRTCSERVER": self._create_webrtc_server,
            "WORKER_WEBRTCSERVER_CLOSE": self._close_webrtc_server,
            "WEBRTCSERVER_DUMP": lambda it: waiting.run(it, self._dump_webrtc_server),
        }

    # --- the worker -----------------------------------------------------------------------------------

    async def _dump_worker(self, request: LibraryRequest) -> None:
        if creating := self._routers.creating:
            await asyncio.wait(creating)
        await self._sessions.wait_answered(self._sessions.all())
        request.accept(dumps.worker_dump(self._pid, self._objects))

    async def _dump_usage(self, request: LibraryRequest) -> None:
        found = await self._sessions.query_places(self._sessions.all(), "WORKER_GET_RESOURCE_USAGE", "")
        request.accept(dumps.resource_usage(found))

    async def _update_settings(self, request: LibraryRequest) -> None:
        try:
            if (level := request.body.get("logLevel")) is not None:
                self._settings.log_level = check_log_level(level)
        except WrongSettings as error:
            raise wrong(str(error)) from None
        if request.body.get("logTags"):
            self._settings.log_tags = tuple(request.body["logTags"])
        await self._logs.follow_again(self._sessions.all())
        request.accept()

    # --- WebRtcServers --------------------------------------------------------------------------------

    def _create_webrtc_server(self, request: LibraryRequest) -> None:
        id = check_id("WebRtcServer", request.body["webRtcServerId"])
        infos = [with_ports(info, self._settings.port_range) for info in request.body["listenInfos"]]
        node = self._objects.add(Node(id, "webrtcserver", listen_infos=infos))
        session = self._sessions.open(node, id, "WebRtcServer")
        body = {"webRtcServerId": id, "listenInfos": infos}
        call = make_call(request.method, "", body, self._addresses.among(infos))
        self._sessions.join_and_make(session, node, request, RequestChannel(call=call))

    def _close_webrtc_server(self, request: LibraryRequest) -> None:
        id = request.body["webRtcServerId"]
        node = self._objects.get(id)
        if node is None or node.kind != "webrtcserver":
            raise Refusal("NotFoundError", f"WebRtcServer not found [method:{request.method}]")
        transports = [it for it in self._objects.of("transport") if it.webrtc_server == id]
        self._sessions.close_and_accept(request, [*transports, node])

    async def _dump_webrtc_server(self, request: LibraryRequest) -> None:
        id = request.handler
        self._objects.require(id, request.method, "webrtcserver")
        sessions = [it for it in self._sessions.all() if id in (it.peer, it.webrtc_server)]
        await self._sessions.wait_answered(sessions)
        by_server: dict[str, ObjectSession] = {}
        for session in sessions:
            if session.place is not None and session.is_usable:
                by_server.setdefault(session.place.server, session)
        found = await self._sessions.query_places(by_server.values(), "WEBRTCSERVER_DUMP", id)
        request.accept(dumps.webrtc_server_dump(id, self._objects, found))
