"""The sessions behind the application's objects: opened with an object, closed with it, asked for dumps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from mafalda.contract.messages.intents import CreateTransport, Intent
from mafalda.contract.messages.payload import Place
from mafalda.dropin.fleet.answers import LibraryAnswer, OnAnswer, ignore
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.client import FleetClient
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.dropin.virtual.library_channel import LibraryChannel
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Node, Objects
from mafalda.dropin.virtual.places import PlacesAhead
from mafalda.dropin.virtual.remaking import Remaking
from mafalda.errors import MafaldaError

#: What ends an object that it is about.
_ENDINGS = frozenset({"CONSUMER_PRODUCER_CLOSE", "DATACONSUMER_DATAPRODUCER_CLOSE"})
#: What is opened again when its worker dies.
REOPENED = frozenset({"observer", "webrtcserver"})
#: For the intents to leave, before the process ends, in seconds.
LEAVE_TIMEOUT_S = 3.0
#: By then the agents have noticed by themselves that a peer is gone, in seconds.
UNFOLLOW_TIMEOUT_S = 90.0


class Sessions:
    """All sessions of one virtual worker, and the objects that they are for.

    Args:
        objects: All of the application's.
        channel: To the library.
        settings: What the worker was started with.
        on_made: Called with each session whose object is made.
    """

    def __init__(
        self,
        objects: Objects,
        channel: LibraryChannel,
        settings: WorkerSettings,
        on_made: Callable[[ObjectSession], None] = lambda _: None,
    ) -> None:
        self._objects = objects
        self._channel = channel
        self._on_made = on_made
        self._fleet: FleetClient | None = None
        self._sessions: set[ObjectSession] = set()
        self._removed = asyncio.Event()
        #: Places for transports that are not asked for yet.
        self.places = PlacesAhead(
            self._open_place, self._give_back_place, settings.transports_per_peer, settings.places_ahead
        )
        #: Makes transports again when their workers die.
        self.remaking = Remaking(objects, self.notify_library, self._end_consumer, self.in_room)

    @property
    def fleet(self) -> FleetClient:
        """The fleet; known before the first request is handled."""
        assert self._fleet is not None, "the fleet is known before a request is handled"
        return self._fleet

    @fleet.setter
    def fleet(self, fleet: FleetClient) -> None:
        self._fleet = fleet

    # --- which there are ------------------------------------------------------------------------------

    def all(self) -> list[ObjectSession]:
        """Every session, also of objects that are closed but have not left yet."""
        return list(self._sessions)

    def in_room(self, room: str) -> list[ObjectSession]:
        """The sessions of one room."""
        return [session for session in self._sessions if session.room == room]

    async def unfollow_room(self, room: str) -> None:
        """Follow a room's results until its last peer has left, then no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(UNFOLLOW_TIMEOUT_S):
                while self.in_room(room):
                    self._removed.clear()
                    await self._removed.wait()
        await self.fleet.unfollow_room(room)

    # --- objects with sessions ------------------------------------------------------------------------

    def open(self, node: Node, room: str, kind: str) -> ObjectSession:
        """A session for an object."""
        return self._own(node, ObjectSession(self.fleet, room, node.id, kind))

    def open_transport(self, node: Node, room: str, beside: str | None) -> ObjectSession:
        """A session for a transport, at a place that is at hand if there is one.

        Args:
            node: The transport.
            room: The router's id.
            beside: The peer on whose worker it is placed if possible.
        """
        session = self.places.take(room, node.type, beside)
        if session is None:
            session = ObjectSession(self.fleet, room, node.id, node.type)
            session.beside = beside
        return self._own(node, session)

    def _own(self, node: Node, session: ObjectSession) -> ObjectSession:
        node.session, session.object = session, node.id
        session.webrtc_server = node.webrtc_server
        self._sessions.add(session)
        return session

    def _open_place(self, room: str, kind: str) -> ObjectSession:
        return ObjectSession(self.fleet, room, f"place-{uuid4().hex}", kind)

    def _give_back_place(self, session: ObjectSession) -> None:
        session.is_reopened = False
        self._sessions.add(session)
        self.leave(session, ignore)

    def join_and_make(
        self, session: ObjectSession, node: Node, request: LibraryRequest, intent: Intent, kind: str = ""
    ) -> None:
        """Join, make the object at the place, and respond.

        Args:
            session: The object's.
            node: The object.
            request: The library's, for it.
            intent: Makes it.
            kind: Of the transport, as the schema calls it; else empty.
        """

        def made(answer: LibraryAnswer) -> None:
            if answer.refusal is not None:
                if self._objects.get(node.id) is node:
                    self._objects.remove(node)
                    self.leave(session, ignore)
                request.refuse(answer.refusal)
                return
            if node.kind in REOPENED:
                session.held[node.id] = intent
            elif node.is_remade and isinstance(intent, CreateTransport):
                self.remaking.keep(node, session, intent, answer.body)
            else:
                session.is_reopened = False
            request.undo = lambda: self.close_each([node], ignore)
            request.accept(answer.body, kind)
            self.announce(node)
            self._on_made(session)
            if kind and self._objects.get(session.room) is not None:  # else its router was closed meanwhile
                self.places.refill(session.room, kind)

        def joined(answer: LibraryAnswer) -> None:
            if answer.refusal is not None:
                made(answer)

        async def follow_own_room() -> None:
            await self.fleet.follow_room(session.room)

        if session.room == node.id:  # a WebRtcServer is in a room of its own
            session.submit_job(follow_own_room)
        if session.peer == node.id:
            session.join(joined)
        else:  # its place was asked for before
            session.on_refused = joined
        session.request(intent, made)

    def announce(self, node: Node) -> None:
        """The library knows of an object from now on: send it what has happened to it since."""
        node.is_open = True
        held, node.held = node.held, []
        for event, body in held:
            self.notify_library(node.id, event, body)

    def notify_library(self, handler: str, event: str, body: dict[str, Any] | None) -> None:
        """Something has happened to one of the application's objects."""
        node = self._objects.get(handler)
        if node is None:
            return
        if not node.is_open:
            node.held.append((event, body))
        elif event not in _ENDINGS:
            self._channel.send_notification(handler, event, body)
        elif not self.remaking.takes_end(node):
            self._end_consumer(node, event)

    def _end_consumer(self, node: Node, event: str) -> None:
        """A consumer has ended, and is not made again."""
        self.remove(node)
        self._channel.send_notification(node.id, event, None)

    def remove(self, node: Node) -> None:
        """Remove an object, with everything in it, and do not make it again."""
        for removed in self._objects.remove(node):
            self.remaking.forget(removed)

    # --- closing --------------------------------------------------------------------------------------

    def close_and_accept(
        self, request: LibraryRequest, nodes: Iterable[Node], then: Callable[[], object] = lambda: None
    ) -> None:
        """Close objects; grant the request when the sessions of all of them are left."""

        def finish() -> None:
            request.accept()
            then()

        left = 0
        to_leave = self.close_each(nodes, lambda _: one_left())

        def one_left() -> None:
            nonlocal left
            left += 1
            if left == to_leave:
                finish()

        if not to_leave:
            finish()

    def close_each(self, nodes: Iterable[Node], on_answer: OnAnswer) -> int:
        """Remove objects and leave with their sessions; how many sessions there are."""
        sessions: list[ObjectSession] = []
        for node in nodes:
            self.remove(node)
            if node.session is not None:
                sessions.append(node.session)
        for session in sessions:
            self.leave(session, on_answer)
        return len(sessions)

    def leave(self, session: ObjectSession, on_answer: OnAnswer) -> None:
        """Leave with a session, and forget it when the fleet has removed its peer."""

        def left() -> None:
            self._sessions.discard(session)
            self._removed.set()
            session.close()

        session.leave(on_answer, left)

    async def leave_all(self) -> None:
        """Leave every room, as far as that is possible in ``LEAVE_TIMEOUT_S``."""
        self.places.give_back(lambda _: True)
        sessions = self.all()
        reached = [asyncio.get_running_loop().create_future() for _ in sessions]
        for session, future in zip(sessions, reached, strict=True):
            session.leave(ignore)
            session.submit_job(_set_job(future))
        if reached:
            await asyncio.wait(reached, timeout=LEAVE_TIMEOUT_S)
        for session in sessions:
            session.close()

    # --- queries --------------------------------------------------------------------------------------

    async def wait_answered(self, sessions: Iterable[ObjectSession]) -> None:
        """Return when everything that was requested of these sessions is answered."""
        await asyncio.gather(*(session.wait_answered() for session in list(sessions)))

    async def query_places(self, sessions: Iterable[ObjectSession], method: str, handler: str) -> list[dict[str, Any]]:
        """Query each worker once, by one of the peers that are placed there.

        Raises:
            MafaldaError: No worker answers; the first error.
        """
        by_place: dict[Place, ObjectSession] = {}
        for session in sessions:
            if session.place is not None and session.is_usable:
                by_place.setdefault(session.place, session)
        call = make_call(method, handler, None)
        found = await asyncio.gather(
            *(session.query_now(call) for session in by_place.values()), return_exceptions=True
        )
        answers = [it for it in found if isinstance(it, dict)]
        error = next((it for it in found if isinstance(it, MafaldaError)), None)
        if error is not None and not answers:
            raise error
        return answers


def _set_job(future: asyncio.Future[None]) -> Callable[[], Any]:
    async def set_result() -> None:
        if not future.done():
            future.set_result(None)

    return set_result
