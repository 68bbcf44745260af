"""The virtual worker: requests of the library go to their handlers, reports of the fleet to the sessions they concern.

Routers are rooms; transports, RTP observers and WebRtcServers are peers with sessions of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from pydantic import ValidationError

from mafalda.contract.messages.channel_calls import LOG_EVENT, ChannelNotice
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import JoinResult
from mafalda.dropin.fleet.answers import Refusal, failed, ignore, refusal_of, wrong
from mafalda.dropin.fleet.client import FleetClient
from mafalda.dropin.fleet.object_session import ObjectSession
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.dropin.virtual.handlers.endpoints import EndpointRequests
from mafalda.dropin.virtual.handlers.routers import RouterRequests
from mafalda.dropin.virtual.handlers.transports import TransportRequests
from mafalda.dropin.virtual.handlers.waiting import WaitingRequests
from mafalda.dropin.virtual.handlers.worker import WorkerRequests
from mafalda.dropin.virtual.library_channel import LibraryChannel
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Node, Objects
from mafalda.dropin.virtual.sessions import Sessions
from mafalda.dropin.virtual.worker_logs import WorkerLogRequests
from mafalda.errors import MafaldaError
from mafalda.mediasoup.channel import worker_side
from mafalda.mediasoup.codec.channel_json import to_json

_log = structlog.get_logger("mafalda.dropin")


class VirtualWorker:
    """One worker, as far as the library knows.

    Args:
        settings: What it was started with.
        pid: Of the process that the library spawned.
        send: Writes a payload to the library.
        on_close: Called when the library closes it.
        on_die: Called when a real worker with transports of the library has died, if the settings say so.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        pid: int,
        send: Callable[[bytes], None],
        on_close: Callable[[], None],
        on_die: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_close = on_close
        self._on_die = on_die
        self._on_worker_death = settings.on_worker_death
        self._on_drain = settings.on_drain
        self._channel = LibraryChannel(settings, send)
        self._objects = Objects()
        self._logs = WorkerLogRequests(settings)
        self._sessions = Sessions(self._objects, self._channel, settings, self._logs.follow)
        self._sessions.remaking.on_failed = self._fail_to_remake
        self._waiting = WaitingRequests()
        self._is_ready = False
        self._is_closed = False
        self._received: list[worker_side.Request | worker_side.Notification] = []  # before the fleet was there
        self._endpoints = EndpointRequests(self._objects, self._sessions)
        routers = RouterRequests(self._objects, self._sessions, self._waiting)
        worker = WorkerRequests(settings, pid, self._objects, self._sessions, routers, self._waiting, self._logs)
        transports = TransportRequests(settings, self._objects, self._sessions)
        self._handlers = worker.handlers | routers.handlers | transports.handlers

    def begin(self, fleet: FleetClient) -> None:
        """Handle what has been received so far, and from now on whatever comes."""
        self._sessions.fleet = fleet
        self._is_ready = True
        received, self._received = self._received, []
        for message in received:
            self._take(message)

    async def close(self) -> None:
        """Leave every room, as far as that is possible soon."""
        await self._logs.close()
        await self._waiting.close()
        await self._sessions.leave_all()

    # --- from the library -----------------------------------------------------------------------------

    def receive(self, payload: bytes) -> None:
        """Take a payload of the library.

        Raises:
            FramingError: It is no message; a worker could not go on after it.
        """
        message = self._channel.decode(payload)
        if self._is_ready:
            self._take(message)
        else:
            self._received.append(message)

    def _take(self, message: worker_side.Request | worker_side.Notification) -> None:
        if self._is_closed:
            return  # a worker reads nothing more
        if isinstance(message, worker_side.Notification):
            self._take_notification(message)
            return
        request = LibraryRequest(message, self._channel)
        try:
            if not self._channel.has_its_body(message):
                raise wrong("the request has no body")
            self._handlers.get(message.method, self._endpoints.handle)(request)
        except Refusal as refusal:
            request.refuse(refusal)
        except MafaldaError as error:
            request.refuse(refusal_of(error))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            request.refuse(wrong(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"))
        except Exception as error:
            _log.exception("internal error", action="internal_error", method=message.method)
            request.refuse(failed(f"internal error: {type(error).__name__}"))

    def _take_notification(self, message: worker_side.Notification) -> None:
        if message.event == "WORKER_CLOSE":
            self._is_closed = True
            self._on_close()
            return
        node = self._objects.get(message.handler)
        if node is None or node.session is None or not node.is_open:
            self.log_to_library("W", f"notification handler with ID {message.handler} not found")
            return
        body = to_json(message.body) if message.body else None
        node.session.notify(ChannelNotice(event=message.event, handler=message.handler, body=body))

    # --- from the fleet -------------------------------------------------------------------------------

    def notify_library(self, handler: str, event: str, body: dict[str, Any] | None) -> None:
        """Something has happened to one of the application's objects, or a worker that has some has logged a line."""
        if event == LOG_EVENT:
            self._channel.send_worker_log(str((body or {}).get("line", "")))
            return
        self._sessions.notify_library(handler, event, body)

    def log_to_library(self, level: str, line: str) -> None:
        """Send the library a log line, if it wants lines of this level: D, W or E."""
        self._channel.send_log(level, line)

    def place_lost(self, is_lost: Callable[[Place], bool]) -> None:
        """A worker or server is gone, and with it what lived there."""
        self._sessions.places.give_back_lost(is_lost)
        for session in self._sessions.all():
            if session.place is not None and is_lost(session.place) and not session.is_lost:
                self._lose(session)

    def no_capacity(self) -> None:
        """The fleet is full."""
        self._sessions.places.pause()

    def moved(self, room: str, peer: str, placement: JoinResult) -> None:
        """The fleet gave a peer another place. An observer is opened again there; a transport is gone all the same."""
        self._sessions.places.give_back(lambda session: session.room == room and session.peer == peer)
        for session in self._sessions.in_room(room):
            if session.peer != peer or placement.generation <= session.generation:
                continue
            if session.is_lost:
                session.lose()  # once more: what was requested while it was opened again may be lost as well
            else:  # its worker lives: an operator drains the server
                self._lose(session, is_drained=True)
            session.move(placement)
            if not session.is_reopened:
                session.leave(ignore)

    def _lose(self, session: ObjectSession, *, is_drained: bool = False) -> None:
        """In mediasoup's terms: the transport is disconnected and closed from outside, its consumers end."""
        session.is_drained = is_drained
        session.lose()
        if session.is_ending or session.is_unused:
            return
        what = f"{session.kind} {session.object}"
        cause = f"the server of {what} is drained" if is_drained else f"the worker of {what} is gone"
        if session.is_reopened:
            self.log_to_library("W", f"{cause}; it will be made again on another")
            return
        self.log_to_library("E", cause)
        self._end_transport(session)

    def _fail_to_remake(self, session: ObjectSession, reason: str) -> None:
        self.log_to_library("E", f"{session.kind} {session.object} cannot be made again: {reason}")
        self._end_transport(session)

    def _end_transport(self, session: ObjectSession) -> None:
        setting = self._on_drain if session.is_drained else self._on_worker_death
        name = "MAFALDA_ON_DRAIN" if session.is_drained else "MAFALDA_ON_WORKER_DEATH"
        if setting == "die":
            self.log_to_library("E", f"ending with it ({name}=die)")
            self._on_die()
            return
        node = self._objects.get(session.object)
        if node is not None and node.session is session:
            self._disconnect(node)
            if setting == "router":
                self._end_router(node.parent, name)

    def _end_router(self, id: str | None, setting: str) -> None:
        """End the other transports of a router, wherever they are, as if their workers had died as well."""
        router = self._objects.get(id or "")
        for node in list(router.children.values()) if router is not None else []:
            session = node.session
            if node.kind == "transport" and node.is_open and not node.is_gone and session is not None:
                self.log_to_library("E", f"{session.kind} {session.object} ends too ({setting}=router)")
                session.is_reopened = False  # its consumers are not made again, so the library must know of their end
                self._disconnect(node)
                session.leave(ignore)

    def _disconnect(self, node: Node) -> None:
        if node.is_gone:
            return
        node.is_gone = True
        for child in list(node.children.values()):
            if child.kind == "consumer":
                self.notify_library(child.id, "CONSUMER_PRODUCER_CLOSE", None)
            elif child.kind == "dataconsumer":
                self.notify_library(child.id, "DATACONSUMER_DATAPRODUCER_CLOSE", None)
        if node.sctp:
            self.notify_library(node.id, "TRANSPORT_SCTP_STATE_CHANGE", {"sctpState": "closed"})
        if node.type == "WebRtcTransport":
            self.notify_library(node.id, "WEBRTCTRANSPORT_ICE_STATE_CHANGE", {"iceState": "disconnected"})
            self.notify_library(node.id, "WEBRTCTRANSPORT_DTLS_STATE_CHANGE", {"dtlsState": "closed"})
