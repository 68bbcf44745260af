"""Serve a page and its JSON over HTTP, beside what else a command does."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus

import orjson
import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mafalda.errors import Broken

HOST = "127.0.0.1"
#: By which a page on loopback may be opened.
NAMES = (HOST, "localhost")
MONITOR_PORT = 8081
HTTP_PORT = 8082
SHUTDOWN_TIMEOUT_S = 1


class PageUnavailable(Broken):
    """A page's port is taken."""

    code = "page-unavailable"


def listen(port: int | None, default_port: int, host: str = HOST) -> socket.socket:
    """A listening socket for a page's visitors.

    Args:
        port: 0: any free one. ``None``: the default one, or any free one if that is taken.
        default_port: The default one.
        host: Address to listen on.

    Raises:
        PageUnavailable: The port is taken.
    """
    try:
        address = (host, default_port if port is None else port)
        return socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if port is None:
            return listen(0, default_port, host)
        raise PageUnavailable("the page cannot listen", port=port, cause=error.strerror) from error


@asynccontextmanager
async def serve(application: ASGIApp, listener: socket.socket, *, name: str) -> AsyncIterator[None]:
    """Serve an application as long as the block. Visitors who are earlier wait in the socket's queue.

    Args:
        application: What is served.
        listener: The listening socket.
        name: Of the task.
    """
    ending = EndingResponses(application)
    server = _Server(
        uvicorn.Config(
            ending,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name=name)
    try:
        yield
    finally:
        ending.end()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the command."""
        yield


class EndingResponses:
    """Ends responses that last until their client disconnects, such as event streams, when the server shuts down."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End them, also those that begin from now on."""
        self._ended.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_body_read = is_open = False

        async def receive_until_ended() -> Message:
            nonlocal is_body_read
            if is_body_read:  # then nothing else comes than that the client disconnects
                return await self._until_ended(receive)
            message = await receive()
            is_body_read = message["type"] == "http.request" and not message.get("more_body", False)
            return message

        async def noted_send(message: Message) -> None:
            nonlocal is_open
            is_open = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        await self._app(scope, receive_until_ended, noted_send)
        if is_open and self._ended.is_set():
            await send({"type": "http.response.body"})

    async def _until_ended(self, receive: Receive) -> Message:
        received, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((received, ended), return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() else {"type": "http.disconnect"}
        finally:
            received.cancel()
            ended.cancel()


class Headers:
    """Adds the same headers to every response."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def is_key(given: str, key: str) -> bool:
    """Whether two keys are the same, in a time that says nothing of how much of them is."""
    return secrets.compare_digest(given.encode(), key.encode())


def given_key(request: Request) -> str:
    """The key in a request's ``Authorization``; empty without one."""
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def stranger() -> Response:
    """The answer to a request without the key."""
    error = {"code": "permission-denied", "message": "open the link that mafalda printed: it carries a key"}
    return Response(orjson.dumps({"error": error}), HTTPStatus.UNAUTHORIZED, media_type="application/json")


class KeyRequired:
    """Refuses requests below a path that carry no key.

    A link carries it as ``?key=``. The browser then keeps it in a cookie that no script reads, since it sends no header
    of a page's own for server-sent events; programs send it as ``Authorization: Bearer``.
    """

    def __init__(self, app: ASGIApp, key: str, path: str) -> None:
        self._app = app
        self._key = key
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if scope["type"] != "http" else self._admit(Request(scope))
        await app(scope, receive, send)

    def _admit(self, request: Request) -> ASGIApp:
        cookie = f"key-{(request.scope.get('server') or ('', 0))[1]}"  # browsers send cookies to all ports of a host
        linked = request.query_params.get("key")
        if linked is not None and is_key(linked, self._key):
            url = request.url.remove_query_params("key")
            response = RedirectResponse(f"{url.path}{f'?{url.query}' if url.query else ''}", HTTPStatus.SEE_OTHER)
            response.set_cookie(cookie, self._key, httponly=True, samesite="strict")
            return response
        if not request.url.path.startswith(self._path):
            return self._app
        given = (given_key(request), request.cookies.get(cookie, ""))
        return self._app if any(is_key(it, self._key) for it in given) else stranger()
