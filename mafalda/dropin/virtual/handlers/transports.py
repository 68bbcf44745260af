"""Requests that make and close transports and RTP observers: each of these is a peer of its router's room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mafalda.contract.ids import check_id
from mafalda.contract.messages.channel_calls import SharedListener
from mafalda.contract.messages.intents import CreateTransport, RequestChannel
from mafalda.dropin.fleet.addresses import HostAddresses
from mafalda.dropin.fleet.answers import failed, not_found
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.dropin.virtual.handlers.listen_infos import take_listen_infos
from mafalda.dropin.virtual.library_request import LibraryRequest
from mafalda.dropin.virtual.objects import Kind, Node, Objects
from mafalda.dropin.virtual.peer_groups import PeerGroups
from mafalda.dropin.virtual.remaking import can_be_remade
from mafalda.dropin.virtual.sessions import Sessions
from mafalda.mediasoup.codec.channel_json import to_json

#: The schema's names of the kinds of transport.
TRANSPORT_KINDS = {
    "ROUTER_CREATE_WEBRTCTRANSPORT": "WebRtcTransport",
    "ROUTER_CREATE_WEBRTCTRANSPORT_WITH_SERVER": "WebRtcTransport",
    "ROUTER_CREATE_PLAINTRANSPORT": "PlainTransport",
    "ROUTER_CREATE_PIPETRANSPORT": "PipeTransport",
    "ROUTER_CREATE_DIRECTTRANSPORT": "DirectTransport",
}
OBSERVER_KINDS = {
    "ROUTER_CREATE_ACTIVESPEAKEROBSERVER": "ActiveSpeakerObserver",
    "ROUTER_CREATE_AUDIOLEVELOBSERVER": "AudioLevelObserver",
}


class TransportRequests:
    """Handles ``ROUTER_CREATE_*`` and ``ROUTER_CLOSE_*``.

    Args:
        settings: What the worker was started with.
        objects: All of the application's.
        sessions: Their sessions.
    """

    def __init__(self, settings: WorkerSettings, objects: Objects, sessions: Sessions) -> None:
        self._settings = settings
        self._addresses = HostAddresses()
        self._objects = objects
        self._sessions = sessions
        self._groups = PeerGroups(settings.transports_per_peer)
        self.handlers: dict[str, Callable[[LibraryRequest], Any]] = {
            "ROUTER_CLOSE_TRANSPORT": lambda it: self._close(it, "transportId", "transport"),
            "ROUTER_CLOSE_RTPOBSERVER": lambda it: self._close(it, "rtpObserverId", "observer"),
            **dict.fromkeys(TRANSPORT_KINDS, self._create_transport),
            **dict.fromkeys(OBSERVER_KINDS, self._create_observer),
        }

    def _create_transport(self, request: LibraryRequest) -> None:
        method, body = request.method, request.body
        router = self._objects.require(request.handler, method, "router")
        id = check_id("transport", body["transportId"])
        kind, options = TRANSPORT_KINDS[method], dict(body["options"])
        server = self._webrtc_server(options) if method.endswith("_WITH_SERVER") else None
        infos = server.listen_infos if server else take_listen_infos(options, self._settings.port_range)
        node = Node(id, "transport", parent=router.id, type=kind, webrtc_server=server.id if server else None)
        node.sctp = bool(options.get("base", {}).get("enableSctp"))
        node.is_remade = can_be_remade(kind, options)
        first = None
        self._objects.add(node)
        if kind == "WebRtcTransport":
            first = self._objects.get(self._groups.add(router.id, id, asyncio.get_running_loop().time()) or "")
        beside = first.session.peer if first is not None and first.session is not None else None
        session = self._sessions.open_transport(node, router.id, beside)
        shared = SharedListener(id=server.id, listen_infos=to_json(infos)) if server else None
        wanted = {"transportId": id, "options": options}
        call = make_call(method, router.id, wanted, self._addresses.among(infos), listener=shared)
        intent = CreateTransport(transport=id, enable_sctp=node.sctp, app_data={"is": kind}, channel=call)
        self._sessions.join_and_make(session, node, request, intent, kind)

    def _create_observer(self, request: LibraryRequest) -> None:
        method, body = request.method, request.body
        router = self._objects.require(request.handler, method, "router")
        id = check_id("RTP observer", body["rtpObserverId"])
        kind = OBSERVER_KINDS[method]
        node = self._objects.add(Node(id, "observer", parent=router.id, type=kind))
        session = self._sessions.open(node, router.id, kind)
        intent = RequestChannel(call=make_call(method, router.id, body))
        self._sessions.join_and_make(session, node, request, intent)

    def _close(self, request: LibraryRequest, key: str, kind: Kind) -> None:
        router = self._objects.require(request.handler, request.method, "router")
        node = router.children.get(request.body[key])
        if node is None or node.kind != kind:
            raise not_found(request.body[key], request.method)
        self._groups.forget(router.id, node.id)
        self._sessions.close_and_accept(request, [node])

    def _webrtc_server(self, options: dict[str, Any]) -> Node:
        """The WebRtcServer that a transport's options name.

        Raises:
            Refusal: There is none with this id.
        """
        listen = options.get("listen")
        id = listen[1].get("webRtcServerId") if isinstance(listen, tuple) else None
        node = self._objects.get(id) if isinstance(id, str) else None
        if node is None or node.kind != "webrtcserver" or not node.is_open:
            raise failed("wrong webRtcServerId (no associated WebRtcServer found)")
        return node
