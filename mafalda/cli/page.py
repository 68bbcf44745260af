"""The room page of ``mafalda up``: its files over HTTP on loopback, and what the page must know of the fleet.

The page itself is in ``web/room``; ``make setup`` builds it. It is open to whoever reaches the port: there are no tokens
yet. What does not belong here: the page's NATS, which is a listener of nats-server.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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
OVERVIEW_AGE_S = 1.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageUnavailable(Broken):
    code = "page-unavailable"


def find_page() -> Path | None:
    """The built page's folder, or ``None`` if it has not been built."""
    folder = Path(__file__).resolve().parents[2] / "web" / "room" / "dist"
    return folder.resolve() if (folder / "index.html").is_file() else None


def listen(port: int | None) -> socket.socket:
    """A listening socket for the page, closed by its owner.

    Args:
        port: 0: any free one. ``None``: the default one, or any free one if that is taken.

    Raises:
        PageUnavailable: The port is taken.
    """
    try:
        return socket.create_server((HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        if port is None:
            return listen(0)
        raise PageUnavailable("the room page cannot listen", port=port, cause=error.strerror) from error


def origins(listener: socket.socket) -> tuple[str, ...]:
    """The page's origins, as a browser names them."""
    port = listener.getsockname()[1]
    return tuple(f"http://{host}:{port}" for host in (HOST, "localhost"))


@asynccontextmanager
async def serve(listener: socket.socket, folder: Path, *, nats_url: str, websocket_port: int) -> AsyncIterator[str]:
    """Serve the page while the block runs; yields its address.

    Args:
        listener: From ``listen``.
        folder: From ``find_page``.
        nats_url: For what the page asks about the fleet.
        websocket_port: Where the page's browser reaches NATS, on the host that the page came from.
    """
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(bus_config(nats_url, name="room page")))
        hosts = tuple(origin.removeprefix("http://") for origin in origins(listener))
        application = web.Application(middlewares=[_only_from_loopback(hosts, websocket_port)])
        fleet = _FleetView(bus)
        application.router.add_get("/api/config", lambda _request: _json({"websocketPort": websocket_port}))
        application.router.add_get("/api/rooms/{room}", fleet.room)
        application.router.add_get("/", lambda _request: _file(folder / "index.html"))
        application.router.add_static("/", folder)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listener).start()
        yield f"{origins(listener)[0]}/"


class _FleetView:
    """What the fleet looks like from a room; asked for at most once in ``OVERVIEW_AGE_S``, however many pages ask."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._lock = asyncio.Lock()
        self._known: dict[str, Any] = {}
        self._known_at = float("-inf")

    async def room(self, request: web.Request) -> web.Response:
        """Servers with their workers, and the peers and relays of one room."""
        try:
            room = check_id("room", request.match_info["room"])
        except BadInput as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        now = asyncio.get_running_loop().time
        async with self._lock:
            if now() - self._known_at > OVERVIEW_AGE_S:
                self._known = await overview(self._bus)
                self._known_at = now()
        found = next((known for known in self._known["rooms"] if known["room"] == room), {"peers": [], "relays": []})
        return await _json({"servers": self._known["servers"], "peers": found["peers"], "relays": found["relays"]})


async def _json(value: Any) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=headers)


async def _file(path: Path) -> web.FileResponse:
    return web.FileResponse(path, headers={"Cache-Control": "no-cache"})


def _only_from_loopback(hosts: tuple[str, ...], websocket_port: int) -> Any:
    """Refuse other host names, by which a foreign site could pass for this one (DNS rebinding), and limit what the page may do."""
    sockets = " ".join(f"ws://{host}:{websocket_port}" for host in (HOST, "localhost"))
    headers = {
        "Content-Security-Policy": f"default-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; "
        "img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    @web.middleware
    async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.host not in hosts:
            raise web.HTTPMisdirectedRequest(text=f"this page is at {' and '.join(hosts)}")
        response = await handler(request)
        response.headers.update(headers)
        return response

    return middleware
