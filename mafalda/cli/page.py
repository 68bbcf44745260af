"""The room page of ``mafalda up``: its files, where its NATS is, and an overview of its fleet, over HTTP on loopback.

The page is built from ``web/room`` by ``make setup``. It needs no token: whoever reaches the port can join every room.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.cli.connecting import bus_config
from mafalda.contract.ids import check_id
from mafalda.errors import BadInput, Broken
from mafalda.monitor.overview import overview

HOST = "127.0.0.1"
DEFAULT_PORT = 8080
#: How old an overview may be that a page gets, in seconds: many pages cost no more than one.
OVERVIEW_AGE_S = 1.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageUnavailable(Broken):
    """The page's port is taken."""

    code = "page-unavailable"


@dataclass(frozen=True, slots=True)
class RoomPage:
    """The built page, and the listening socket that it is going to be served on."""

    folder: Path
    listener: socket.socket

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host and port, as browsers name them in ``Host``."""
        port = self.listener.getsockname()[1]
        return tuple(f"{name}:{port}" for name in (HOST, "localhost"))

    @property
    def origins(self) -> tuple[str, ...]:
        """Its origins, as browsers name them in ``Origin``."""
        return tuple(f"http://{host}" for host in self.hosts)


@contextmanager
def open_page(port: int | None) -> Iterator[RoomPage | None]:
    """Listen for the page's visitors as long as the block; ``None`` if the page has not been built.

    Args:
        port: 0: any free one. ``None``: 8080, or any free one if that is taken.

    Raises:
        PageUnavailable: The port is taken.
    """
    folder = Path(__file__).resolve().parents[2] / "web" / "room" / "dist"
    if not (folder / "index.html").is_file():
        yield None
        return
    with _listen(port) as listener:
        yield RoomPage(folder.resolve(), listener)


@asynccontextmanager
async def serve_page(page: RoomPage, nats_url: str, websocket_port: int) -> AsyncIterator[str]:
    """Serve the page as long as the block; yields its URL.

    Args:
        page: From ``open_page``.
        nats_url: Of the fleet that the page gets an overview of.
        websocket_port: Of NATS, on the host that the page is served from.
    """
    async with connect(bus_config(nats_url, name="room page")) as bus:
        api = _Api(bus, websocket_port)
        application = web.Application(middlewares=[_guard(page.hosts, websocket_port)])
        application.router.add_get("/api/config", api.config)
        application.router.add_get("/api/rooms/{room}", api.room)
        application.router.add_get("/", _index(page.folder))
        application.router.add_static("/", page.folder)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.SockSite(runner, page.listener).start()
            yield f"{page.origins[0]}/"
        finally:
            await runner.cleanup()


class _Api:
    def __init__(self, bus: NatsBus, websocket_port: int) -> None:
        self._bus = bus
        self._websocket_port = websocket_port
        self._lock = asyncio.Lock()
        self._overview: dict[str, Any] = {}
        self._read_at = float("-inf")

    async def config(self, _request: web.Request) -> web.Response:
        """Where the page's SDK connects to."""
        return _json({"websocketPort": self._websocket_port})

    async def room(self, request: web.Request) -> web.Response:
        """All servers with their workers, and the peers and relays of one room."""
        try:
            room = check_id("room", request.match_info["room"])
        except BadInput as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        now = asyncio.get_running_loop().time
        async with self._lock:
            if now() - self._read_at > OVERVIEW_AGE_S:
                self._overview, self._read_at = await overview(self._bus), now()
        rooms = {known["room"]: known for known in self._overview["rooms"]}
        found = rooms.get(room, {"peers": [], "relays": []})
        return _json({"servers": self._overview["servers"], "peers": found["peers"], "relays": found["relays"]})


def _listen(port: int | None) -> socket.socket:
    try:
        return socket.create_server((HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        if port is None:
            return _listen(0)
        raise PageUnavailable("the room page cannot listen", port=port, cause=error.strerror) from error


def _json(value: Any) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _index(folder: Path) -> _Handler:
    async def index(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})

    return index


def _guard(hosts: tuple[str, ...], websocket_port: int) -> Any:
    """Refuse foreign host names (DNS rebinding), and tell the browser what the page may load and connect to."""
    sockets = " ".join(f"ws://{name}:{websocket_port}" for name in (HOST, "localhost"))
    headers = {
        "Content-Security-Policy": f"default-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; "
        "img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.host not in hosts:
            raise web.HTTPMisdirectedRequest(text=f"this page is at {' and '.join(hosts)}")
        response = await handler(request)
        response.headers.update(headers)
        return response

    return guard
