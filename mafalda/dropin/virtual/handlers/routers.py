"""Requests for routers: a router is a room, and has a real router on each worker that serves the room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mafalda.contract.ids import check_id
from mafalda.dropin.fleet.answers import Refusal
from mafalda.dropin.virtual.handlers import dumps
from mafalda.dropin.virtual.handlers.waiting import WaitingRequests
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Node, Objects
from mafalda.dropin.virtual.sessions import Sessions
from mafalda.errors import MafaldaError


class RouterRequests:
    """Handles the making, closing and dumping of routers.

    Args:
        objects: All of the application's.
        sessions: Their sessions.
        waiting: Runs what cannot be answered at once.
    """

    def __init__(self, objects: Objects, sessions: Sessions, waiting: WaitingRequests) -> None:
        self._objects = objects
        self._sessions = sessions
        self._waiting = waiting
        #: Routers that are being made.
        self.creating: set[asyncio.Task[None]] = set()
        self.handlers: dict[str, Callable[[LibraryRequest], Any]] = {
            "WORKER_CREATE_ROUTER": self._start_creating,
            "WORKER_CLOSE_ROUTER": self._close,
            "ROUTER_DUMP": lambda it: waiting.run(it, self._dump),
        }

    def _start_creating(self, request: LibraryRequest) -> None:
        task = self._waiting.run(request, self._create)
        self.creating.add(task)
        task.add_done_callback(self.creating.discard)

    async def _create(self, request: LibraryRequest) -> None:
        id = check_id("router", request.body["routerId"])
        node = self._objects.add(Node(id, "router"))
        try:
            await self._sessions.fleet.follow_room(id)
        except MafaldaError:
            self._objects.remove(node)
            raise
        node.is_open = True
        request.accept()
        self._sessions.places.refill(id, "WebRtcTransport")

    def _close(self, request: LibraryRequest) -> None:
        id = request.body["routerId"]
        node = self._objects.get(id)
        if node is None or node.kind != "router":
            raise Refusal("NotFoundError", f"Router not found [method:{request.method}]")
        children = list(node.children.values())
        self._objects.remove(node)
        self._sessions.places.give_back_room(id)

        async def unfollow(_: LibraryRequest) -> None:
            await self._sessions.unfollow_room(id)

        self._sessions.close_and_accept(request, children, lambda: self._waiting.run(request, unfollow))

    async def _dump(self, request: LibraryRequest) -> None:
        router = self._objects.require(request.handler, request.method, "router")
        sessions = self._sessions.in_room(router.id)
        await self._sessions.wait_answered(sessions)
        found = await self._sessions.query_places(sessions, "ROUTER_DUMP", "")
        request.accept(dumps.router_dump(router, self._objects, found))
