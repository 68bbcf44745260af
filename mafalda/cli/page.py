"""The room page of ``mafalda up``: its files, where its NATS is, and an overview of its fleet, over HTTP on loopback.

The page is built from ``web/room`` by ``make setup``. In a closed fleet its link carries a key, in the fragment, for
which it gets a token for each room that it joins. The key that ``mafalda`` prints is the host's; the links that a host
copies for others carry the guests'.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mafalda.auth.keys import KeyFolder
from mafalda.auth.tokens import TokenKeys
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.cli.killing import kill_worker
from mafalda.cli.serving import NAMES, Headers, given_key, is_key, listen, serve, stranger
from mafalda.contract.grants import Grants
from mafalda.contract.ids import check_id
from mafalda.contract.permissions import inbox_prefix
from mafalda.errors import BadInput, NotFound
from mafalda.monitor.overview import overview

DEFAULT_PORT = 8080
#: How long a page may stay in a room, in seconds.
TOKEN_LIFE_S = 24 * 3600
#: How old an overview may be that a page gets, in seconds: many pages cost no more than one.
OVERVIEW_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class RoomPage:
    """The built page, and the listening socket that it is going to be served on."""

    folder: Path
    listener: socket.socket

    @property
    def origins(self) -> tuple[str, ...]:
        """Its origins, as browsers name them in ``Origin``."""
        port = self.listener.getsockname()[1]
        return tuple(f"http://{name}:{port}" for name in NAMES)


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
    with listen(port, DEFAULT_PORT) as listener:
        yield RoomPage(folder.resolve(), listener)


@dataclass(frozen=True, slots=True)
class PageAccess:
    """Who may use the page: in a closed fleet whoever has its link, which carries one of three keys.

    Attributes:
        host_key: Of hosts, who moderate, and who kill workers where the page offers that.
        guest_key: Of those whom they invite.
        audience_key: Of those whom they invite to watch and listen.
        tokens: Mints tokens; ``None``: the fleet is open, and needs no key but for killing workers.
    """

    host_key: str
    guest_key: str
    audience_key: str
    tokens: TokenKeys | None

    @classmethod
    def of(cls, keys: KeyFolder | None) -> PageAccess:
        """New keys, for one run.

        Args:
            keys: Of the fleet; ``None``: it is open.

        Raises:
            BadInput: The key set of tokens cannot be read.
        """
        tokens = TokenKeys.read(keys.tokens) if keys else None
        host, guest, audience = (secrets.token_urlsafe(24) for _ in range(3))
        return cls(host, guest, audience, tokens)

    def admits(self, request: Request) -> bool:
        """Whether a request carries a key, or needs none."""
        is_guest = is_key(given_key(request), self.guest_key)
        return self.tokens is None or is_guest or self.is_audience(request) or self.is_host(request)

    def is_audience(self, request: Request) -> bool:
        """Whether a request carries the audience's key."""
        return is_key(given_key(request), self.audience_key)

    def is_host(self, request: Request) -> bool:
        """Whether a request carries the hosts' key."""
        return is_key(given_key(request), self.host_key)


@asynccontextmanager
async def serve_page(
    page: RoomPage, bus: BusConfig, websocket_port: int, access: PageAccess, *, kills_workers: bool = False
) -> AsyncIterator[str]:
    """Serve the page as long as the block; yields its URL.

    Args:
        page: From ``open_page``.
        bus: Of the fleet that the page gets an overview of.
        websocket_port: Of NATS, on the host that the page is served from.
        access: Who may use it.
        kills_workers: Whether hosts may kill workers, which must be below this process.
    """
    async with connect(bus) as connected:
        application = _application(
            page, _Api(connected, websocket_port, access, kills_workers=kills_workers), websocket_port
        )
        async with serve(application, page.listener, name="serve the room page"):
            yield f"{page.origins[0]}/"


def _application(page: RoomPage, api: _Api, websocket_port: int) -> Starlette:
    sockets = " ".join(f"ws://{name}:{websocket_port}" for name in NAMES)
    headers = {
        "Cache-Control": "no-cache",  # files are revalidated by their ETag
        "Content-Security-Policy": f"default-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; "
        "worker-src blob:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Starlette(
        routes=[
            Route("/api/config", api.config),
            Route("/api/token", api.token, methods=["POST"]),
            Route("/api/rooms/{room}", api.room),
            Route("/api/workers/{worker}/kill", api.kill, methods=["POST"]),
            Mount("/", StaticFiles(directory=page.folder, html=True)),
        ],
        middleware=[
            # A foreign site could pass for this one by a name of its own that leads here (DNS rebinding).
            Middleware(TrustedHostMiddleware, allowed_hosts=NAMES),
            Middleware(Headers, headers=headers),
            Middleware(GZipMiddleware),
        ],
    )


class _Api:
    def __init__(self, bus: NatsBus, websocket_port: int, access: PageAccess, *, kills_workers: bool) -> None:
        self._bus = bus
        self._access = access
        self._kills_workers = kills_workers
        self._websocket_port = websocket_port
        self._lock = asyncio.Lock()
        self._overview: dict[str, Any] = {}
        self._read_at = float("-inf")

    async def config(self, _request: Request) -> Response:
        """Where the page's SDK connects to."""
        return _json({"websocketPort": self._websocket_port})

    async def token(self, request: Request) -> Response:
        """A new peer of one room, with the token that a closed fleet needs, for who has the page's link.

        A host's may moderate, and a host is told the keys for the links of guests and of the audience.

        The id is drawn here: with a token for another's id one could take over that peer.
        """
        if not self._access.admits(request):
            return stranger()
        is_host, is_audience = self._access.is_host(request), self._access.is_audience(request)
        tokens = self._access.tokens
        try:
            wanted = orjson.loads(await request.body())
            grants = Grants(rooms=[wanted["room"]], peer=secrets.token_hex(12), moderate=is_host, audience=is_audience)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError):
            return _error("bad-input", "a legal room is needed", HTTPStatus.BAD_REQUEST)
        may: dict[str, Any] = {
            "moderate": is_host or (tokens is None and not is_audience),
            "killWorkers": is_host and self._kills_workers,
        }
        if is_host:
            may["guestKey"] = self._access.guest_key  # in an open fleet too: its host may kill workers, guests not
            may["audienceKey"] = self._access.audience_key
        if is_audience:
            may["audience"] = True
        if tokens is None:
            return _json({"peer": grants.peer, **may})
        text = tokens.mint(grants, life_s=TOKEN_LIFE_S, now=int(time.time()))
        credential = {"token": text, "inboxPrefix": inbox_prefix(grants.rooms[0], grants.peer)}
        return _json({"peer": grants.peer, **credential, **may})

    async def room(self, request: Request) -> Response:
        """All servers with their workers, and the peers and relays of one room."""
        if not self._access.admits(request):
            return stranger()
        try:
            room = check_id("room", request.path_params["room"])
        except BadInput as error:
            return _error(error.code, str(error), HTTPStatus.BAD_REQUEST)
        seen = await self._read_overview()
        rooms = {known["room"]: known for known in seen["rooms"]}
        found = rooms.get(room, {"peers": [], "relays": []})
        return _json({"servers": seen["servers"], "peers": found["peers"], "relays": found["relays"]})

    async def kill(self, request: Request) -> Response:
        """Kill a worker, for hosts, where the page offers that."""
        if not self._kills_workers or not self._access.is_host(request):
            return stranger()
        try:
            kill_worker((await self._read_overview())["servers"], request.path_params["worker"])
        except NotFound as error:
            return _error(error.code, str(error), HTTPStatus.NOT_FOUND)
        return _json({"killed": True})

    async def _read_overview(self) -> dict[str, Any]:
        """The overview, at most ``OVERVIEW_AGE_S`` old."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            if now() - self._read_at > OVERVIEW_AGE_S:
                self._overview, self._read_at = await overview(self._bus), now()
            return self._overview


def _error(code: str, message: str, status: HTTPStatus) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
