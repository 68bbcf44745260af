"""The virtual worker: what a library asks of its worker, done by the fleet.

Routers are rooms; transports, observers and WebRtcServers are peers with homes of their own. What does not belong here:
the objects on transports (``on_transports``), putting dumps together (``dumps``), the channel's bytes (``wire``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog
from pydantic import ValidationError

from mafalda.contract.ids import check_id
from mafalda.contract.messages.channel_calls import ChannelNotice, SharedListener
from mafalda.contract.messages.intents import CreateTransport, RequestChannel
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import JoinResult
from mafalda.dropin.fleet.addresses import HostAddresses
from mafalda.dropin.fleet.fleet import Answer, Fleet, make_call
from mafalda.dropin.fleet.peer_session import Home, ignore
from mafalda.dropin.process.settings import LOG_LEVELS, Settings, WrongSettings, check_log_level
from mafalda.dropin.virtual import dumps
from mafalda.dropin.virtual.errors import Refusal, failed, not_found, refusal_of, wrong
from mafalda.dropin.virtual.objects import Kind, Node, Objects
from mafalda.dropin.virtual.on_transports import OnTransports
from mafalda.dropin.virtual.requests import Open
from mafalda.errors import MafaldaError
from mafalda.mediasoup.channel import worker_side
from mafalda.mediasoup.codec.channel_json import to_json
from mafalda.mediasoup.errors import InvalidParameters

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
#: What ends with what it is about, unasked.
_ENDINGS = frozenset({"CONSUMER_PRODUCER_CLOSE", "DATACONSUMER_DATAPRODUCER_CLOSE"})
#: What is told of the fleet's end before we end, in seconds.
GOODBYE_S = 3.0
#: By then the agents have noticed by themselves that a peer is gone, in seconds.
FORGET_WITHIN_S = 90.0
log = structlog.get_logger("mafalda.dropin")


class VirtualWorker:
    """One worker, as far as the library knows.

    Args:
        settings: What it was started with.
        pid: Of the process that the library spawned.
        send: Writes a payload to the library.
        on_close: Called when the library closes it.
    """

    def __init__(
        self, settings: Settings, pid: int, send: Callable[[bytes], None], on_close: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._pid = pid
        self._send = send
        self._on_close = on_close
        self._addresses = HostAddresses()
        self._objects = Objects()
        self._on_transports = OnTransports(self._objects, self._open_node, self._drop)
        self._fleet: Fleet | None = None
        self._homes: set[Home] = set()
        self._home_gone = asyncio.Event()
        self._early: list[worker_side.Request | worker_side.Notification] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._creating: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Open], None]] = {
            "WORKER_DUMP": lambda it: self._later(it, self._dump_worker),
            "WORKER_GET_RESOURCE_USAGE": lambda it: self._later(it, self._dump_usage),
            "WORKER_UPDATE_SETTINGS": self._update_settings,
            "WORKER_CREATE_WEBRTCSERVER": self._create_webrtc_server,
            "WORKER_WEBRTCSERVER_CLOSE": self._close_webrtc_server,
            "WORKER_CREATE_ROUTER": lambda it: self._later(it, self._create_router),
            "WORKER_CLOSE_ROUTER": self._close_router,
            "WEBRTCSERVER_DUMP": lambda it: self._later(it, self._dump_webrtc_server),
            "ROUTER_DUMP": lambda it: self._later(it, self._dump_router),
            "ROUTER_CLOSE_TRANSPORT": lambda it: self._close_child(it, "transportId", "transport"),
            "ROUTER_CLOSE_RTPOBSERVER": lambda it: self._close_child(it, "rtpObserverId", "observer"),
            **dict.fromkeys(TRANSPORT_KINDS, self._create_transport),
            **dict.fromkeys(OBSERVER_KINDS, self._create_observer),
        }

    @property
    def fleet(self) -> Fleet:
        """The fleet; there since ``begin``."""
        assert self._fleet is not None, "the fleet is there before anything is asked of it"
        return self._fleet

    def begin(self, fleet: Fleet) -> None:
        """The fleet is there: do what was asked meanwhile, then whatever comes."""
        self._fleet = fleet
        early, self._early = self._early, []
        for message in early:
            self._take(message)

    # --- from the library -----------------------------------------------------------------------------

    def receive(self, payload: bytes) -> None:
        """A message of the library.

        Raises:
            FramingError: It is none; a worker could not go on after it.
        """
        message = worker_side.decode(payload)
        if self._fleet is None:
            self._early.append(message)
        else:
            self._take(message)

    def _take(self, message: worker_side.Request | worker_side.Notification) -> None:
        if isinstance(message, worker_side.Notification):
            self._told(message)
            return
        request = Open(message, self._send)
        try:
            if not worker_side.has_its_body(message):
                raise wrong("the request has no body")
            handler = self._handlers.get(message.method)
            if handler is not None:
                handler(request)
            else:
                self._on_transports.handle(request)
        except Refusal as refusal:
            request.refuse(refusal)
        except MafaldaError as error:
            request.refuse(refusal_of(error))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            request.refuse(wrong(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"))
        except Exception as error:
            log.exception("internal error", action="internal_error", method=message.method)
            request.refuse(failed(f"internal error: {type(error).__name__}"))

    def _told(self, told: worker_side.Notification) -> None:
        if told.event == "WORKER_CLOSE":
            self._on_close()
            return
        node = self._objects.get(told.handler)
        if node is None or node.home is None or not node.is_open:
            self.say("W", f"notification handler with ID {told.handler} not found")
            return
        body = to_json(told.body) if told.body else None
        node.home.tell(ChannelNotice(event=told.event, handler=told.handler, body=body))

    def _later(self, request: Open, work: Callable[[Open], Awaitable[None]]) -> None:
        """Do what has to wait beside the rest."""

        async def guarded() -> None:
            try:
                await work(request)
            except Refusal as refusal:
                request.refuse(refusal)
            except MafaldaError as error:
                request.refuse(refusal_of(error))

        task = asyncio.create_task(guarded(), name=f"dropin {request.request.method}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if request.request.method == "WORKER_CREATE_ROUTER":
            self._creating.add(task)
            task.add_done_callback(self._creating.discard)

    # --- from the fleet -------------------------------------------------------------------------------

    def notice(self, handler: str, event: str, body: dict[str, Any] | None) -> None:
        """Something happened to one of the application's objects."""
        node = self._objects.get(handler)
        if node is None:
            return
        if not node.is_open:
            node.held.append((event, body))
            return
        if event in _ENDINGS:
            self._objects.remove(node)
        self._tell(handler, event, body)

    def _tell(self, handler: str, event: str, body: dict[str, Any] | None = None) -> None:
        try:
            self._send(worker_side.encode_notification(event, handler, body))
        except InvalidParameters as error:
            log.warning("notification not understood", action="notice_odd", name=event, reason=str(error))

    def say(self, level: str, line: str) -> None:
        """A log line, if the library wants such."""
        wanted = {"D": 3, "W": 2, "E": 1}.get(level, 0)
        if wanted <= LOG_LEVELS[self._settings.log_level]:
            self._send(worker_side.encode_log(f"{level}mafalda-worker: {line}"))

    def place_lost(self, is_lost: Callable[[Place], bool]) -> None:
        """A worker or server is gone, and with it what lived there."""
        for home in list(self._homes):
            if home.place is not None and is_lost(home.place) and not home.is_lost:
                self._lose(home)

    def moved(self, room: str, peer: str, joined: JoinResult) -> None:
        """The fleet gave a peer another place. An observer is made again there; a transport is gone all the same."""
        for home in list(self._homes):
            if (home.room, home.peer) != (room, peer) or joined.generation <= home.generation:
                continue
            if home.is_lost:
                home.lose()  # once more: what was asked on its way back may have died as well
            else:
                self._lose(home)
            home.come_back(joined)
            if not home.comes_back:
                home.leave(ignore)

    def _lose(self, home: Home) -> None:
        """In mediasoup's terms: the transport is disconnected and closed from outside, its consumers end."""
        home.lose()
        node = self._objects.get(home.peer)
        if home.comes_back:
            self.say("W", f"the worker of {home.what} {home.peer} is gone; it will be made again on another")
            return
        self.say("E", f"the worker of {home.what} {home.peer} is gone")
        if node is None or node.home is not home:
            return
        for child in list(node.children.values()):
            if child.kind == "consumer":
                self.notice(child.id, "CONSUMER_PRODUCER_CLOSE", None)
            elif child.kind == "dataconsumer":
                self.notice(child.id, "DATACONSUMER_DATAPRODUCER_CLOSE", None)
        if node.sctp:
            self.notice(node.id, "TRANSPORT_SCTP_STATE_CHANGE", {"sctpState": "closed"})
        if node.type == "WebRtcTransport":
            self.notice(node.id, "WEBRTCTRANSPORT_ICE_STATE_CHANGE", {"iceState": "disconnected"})
            self.notice(node.id, "WEBRTCTRANSPORT_DTLS_STATE_CHANGE", {"dtlsState": "closed"})

    # --- the worker -----------------------------------------------------------------------------------

    async def _dump_worker(self, request: Open) -> None:
        if self._creating:
            await asyncio.wait(self._creating)
        await self._settled(self._homes)
        request.accept(dumps.worker_dump(self._pid, self._objects))

    async def _dump_usage(self, request: Open) -> None:
        found = await self._ask_each(self._homes, "WORKER_GET_RESOURCE_USAGE", "")
        request.accept(dumps.resource_usage(found))

    def _update_settings(self, request: Open) -> None:
        try:
            if (level := request.body.get("logLevel")) is not None:
                self._settings.log_level = check_log_level(level)
        except WrongSettings as error:
            raise wrong(str(error)) from None
        if request.body.get("logTags"):
            self._settings.log_tags = tuple(request.body["logTags"])
        request.accept()

    # --- WebRtcServers --------------------------------------------------------------------------------

    def _create_webrtc_server(self, request: Open) -> None:
        id = check_id("WebRtcServer", request.body["webRtcServerId"])
        infos = [self._with_ports(info) for info in request.body["listenInfos"]]
        node = self._objects.add(Node(id, "webrtcserver", listen_infos=infos))
        home = self._home(node, id, "WebRtcServer")
        call = make_call(
            request.request.method, "", {"webRtcServerId": id, "listenInfos": infos}, self._addresses.among(infos)
        )
        self._settle_in(home, node, request, RequestChannel(call=call))

    def _close_webrtc_server(self, request: Open) -> None:
        id = request.body["webRtcServerId"]
        node = self._objects.get(id)
        if node is None or node.kind != "webrtcserver":
            raise Refusal("NotFoundError", f"WebRtcServer not found [method:{request.request.method}]")
        transports = [it for it in self._objects.of("transport") if it.listener == id]
        self._close_all(request, [*transports, node])

    async def _dump_webrtc_server(self, request: Open) -> None:
        id = request.request.handler
        self._objects.require(id, request.request.method, "webrtcserver")
        homes = [home for home in self._homes if id in (home.peer, home.listener)]  # also those that are leaving
        await self._settled(homes)
        servers: dict[str, Home] = {}
        for home in homes:
            if home.place is not None and not home.is_lost and not home.has_left:
                servers.setdefault(home.place.server, home)
        found = await self._ask_each(servers.values(), "WEBRTCSERVER_DUMP", id)
        request.accept(dumps.webrtc_server_dump(id, self._objects, found))

    # --- routers --------------------------------------------------------------------------------------

    async def _create_router(self, request: Open) -> None:
        id = check_id("router", request.body["routerId"])
        node = self._objects.add(Node(id, "router"))
        try:
            await self.fleet.open_room(id)
        except MafaldaError:
            self._objects.remove(node)
            raise
        node.is_open = True
        request.accept()

    def _close_router(self, request: Open) -> None:
        id = request.body["routerId"]
        node = self._objects.get(id)
        if node is None or node.kind != "router":
            raise Refusal("NotFoundError", f"Router not found [method:{request.request.method}]")
        children = list(node.children.values())
        self._objects.remove(node)
        self._close_all(request, children, lambda: self._later(request, lambda _: self._forget_room(id)))

    async def _forget_room(self, room: str) -> None:
        """Hear of a room's peers until the fleet has forgotten the last one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FORGET_WITHIN_S):
                while any(home.room == room for home in self._homes):
                    self._home_gone.clear()
                    await self._home_gone.wait()
        await self.fleet.close_room(room)

    async def _dump_router(self, request: Open) -> None:
        router = self._objects.require(request.request.handler, request.request.method, "router")
        homes = [home for home in self._homes if home.room == router.id]  # also those that are leaving
        await self._settled(homes)
        found = await self._ask_each(homes, "ROUTER_DUMP", "")
        request.accept(dumps.router_dump(router, self._objects, found))

    # --- transports and observers ---------------------------------------------------------------------

    def _create_transport(self, request: Open) -> None:
        method, body = request.request.method, request.body
        router = self._objects.require(request.request.handler, method, "router")
        id = check_id("transport", body["transportId"])
        kind, options = TRANSPORT_KINDS[method], dict(body["options"])
        listener = self._listener(options) if method.endswith("_WITH_SERVER") else None
        infos = self._listen_infos(options) if listener is None else listener.listen_infos
        node = Node(id, "transport", parent=router.id, type=kind, listener=listener.id if listener else None)
        node.sctp = bool(options.get("base", {}).get("enableSctp"))
        home = self._home(self._objects.add(node), router.id, kind)
        shared = SharedListener(id=listener.id, listen_infos=to_json(infos)) if listener else None
        call = make_call(
            method, router.id, {"transportId": id, "options": options}, self._addresses.among(infos), listener=shared
        )
        intent = CreateTransport(transport=id, enable_sctp=node.sctp, app_data={"is": kind}, channel=call)
        self._settle_in(home, node, request, intent, kind)

    def _create_observer(self, request: Open) -> None:
        method, body = request.request.method, request.body
        router = self._objects.require(request.request.handler, method, "router")
        id = check_id("RTP observer", body["rtpObserverId"])
        kind = OBSERVER_KINDS[method]
        node = self._objects.add(Node(id, "observer", parent=router.id, type=kind))
        home = self._home(node, router.id, kind)
        self._settle_in(home, node, request, RequestChannel(call=make_call(method, router.id, body)))

    def _close_child(self, request: Open, key: str, kind: Kind) -> None:
        router = self._objects.require(request.request.handler, request.request.method, "router")
        node = router.children.get(request.body[key])
        if node is None or node.kind != kind:
            raise not_found(request.body[key], request.request.method)
        self._close_all(request, [node])

    def _listener(self, options: dict[str, Any]) -> Node:
        listen = options.get("listen")
        id = listen[1].get("webRtcServerId") if isinstance(listen, tuple) else None
        node = self._objects.get(id) if isinstance(id, str) else None
        if node is None or node.kind != "webrtcserver" or not node.is_open:
            raise failed("wrong webRtcServerId (no associated WebRtcServer found)")
        return node

    def _listen_infos(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Every listen info in the options, each given the ports that the application's settings name."""
        found: list[dict[str, Any]] = []
        for key in ("listenInfo", "rtcpListenInfo"):
            if options.get(key):
                options[key] = self._with_ports(options[key])
                found.append(options[key])
        listen = options.get("listen")
        if isinstance(listen, tuple) and listen[0] == "ListenIndividual":
            infos = [self._with_ports(info) for info in listen[1]["listenInfos"]]
            options["listen"] = (listen[0], {"listenInfos": infos})
            found += infos
        return found

    def _with_ports(self, info: dict[str, Any]) -> dict[str, Any]:
        ports = self._settings.port_range
        named = info.get("portRange") or {}
        if ports is None or info.get("port") or named.get("min") or named.get("max"):
            return info
        return {**info, "portRange": ports}

    # --- homes ----------------------------------------------------------------------------------------

    def _home(self, node: Node, room: str, what: str) -> Home:
        node.home = home = Home(self.fleet, room, node.id, what)
        home.listener = node.listener
        self._homes.add(home)
        return home

    def _settle_in(self, home: Home, node: Node, request: Open, intent: Any, kind: str = "") -> None:
        """Get a place, then make the object there."""

        def made(answer: Answer) -> None:
            if answer.refusal is not None:
                self._drop(node)
                self._part(home, ignore)
                request.refuse(answer.refusal)
                return
            if node.kind == "observer":
                home.holds[node.id] = intent
            else:
                home.comes_back = False
            request.late = lambda: self._undo(node)
            request.accept(answer.body, kind)
            self._open_node(node)

        def joined(answer: Answer) -> None:
            if answer.refusal is not None:
                made(answer)

        async def hear() -> None:
            if home.room == node.id:  # a room of its own
                await self.fleet.open_room(home.room)

        home.first(hear)
        home.join(joined)
        home.want(intent, made)

    def _open_node(self, node: Node) -> None:
        """The library knows of the object: tell what happened to it since."""
        node.is_open = True
        held, node.held = node.held, []
        for event, body in held:
            self.notice(node.id, event, body)

    def _drop(self, node: Node) -> None:
        self._objects.remove(node)

    def _close_all(self, request: Open, nodes: Iterable[Node], then: Callable[[], None] | None = None) -> None:
        """End objects that have homes; answer when all have."""
        homes = self._close_nodes(nodes)
        left = len(homes)

        def one_left(_: Answer) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                finish()

        def finish() -> None:
            request.accept()
            if then is not None:
                then()

        if not homes:
            finish()
        for home in homes:
            self._part(home, one_left)

    def _close_nodes(self, nodes: Iterable[Node]) -> list[Home]:
        homes: list[Home] = []
        for node in nodes:
            self._objects.remove(node)
            if node.home is not None:
                homes.append(node.home)
        return homes

    def _undo(self, node: Node) -> None:
        for home in self._close_nodes([node]):
            self._part(home, ignore)

    def _part(self, home: Home, on_answer: Callable[[Answer], None]) -> None:
        def left() -> None:
            self._homes.discard(home)
            self._home_gone.set()
            home.close()

        home.leave(on_answer, left)

    async def _settled(self, homes: Iterable[Home]) -> None:
        await asyncio.gather(*(home.settled() for home in list(homes)))

    async def _ask_each(self, homes: Iterable[Home], method: str, handler: str) -> list[dict[str, Any]]:
        """Ask each place once, by one of the peers that live there."""
        by_place: dict[Place, Home] = {}
        for home in homes:
            if home.place is not None and not home.is_lost and not home.has_left:
                by_place.setdefault(home.place, home)
        call = make_call(method, handler, None)
        found = await asyncio.gather(*(home.read(call) for home in by_place.values()), return_exceptions=True)
        answers = [it for it in found if isinstance(it, dict)]
        error = next((it for it in found if isinstance(it, MafaldaError)), None)
        if error is not None and not answers:
            raise error
        return answers

    # --- the end --------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Leave every room, as far as that is possible soon."""
        for task in list(self._tasks):
            task.cancel()
        homes = list(self._homes)
        said = [asyncio.get_running_loop().create_future() for _ in homes]
        for home, future in zip(homes, said, strict=True):
            home.leave(ignore)
            home.last(future)
        if said:
            await asyncio.wait(said, timeout=GOODBYE_S)
        for home in homes:
            home.close()
