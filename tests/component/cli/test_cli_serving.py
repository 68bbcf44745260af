"""A key that the link of a page carries."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from mafalda.cli.serving import KeyRequired

KEY = "a-long-key"


async def ask(path: str, query: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""

    async def answer(_: Request) -> PlainTextResponse:
        return PlainTextResponse("the log")

    routes = [Route("/", answer), Route("/api/log", answer)]
    application = Starlette(routes=routes, middleware=[Middleware(KeyRequired, key=KEY, path="/api/")])
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(part: Message) -> None:
        sent.append(part)

    given = [(name.encode(), value.encode()) for name, value in {"host": "localhost:81", **headers}.items()]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": given}
    await application({**scope, "scheme": "http", "server": ("127.0.0.1", 81)}, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, HTTPStatus.UNAUTHORIZED),
        ({"authorization": "Bearer guessed"}, HTTPStatus.UNAUTHORIZED),
        ({"cookie": "key-81=guessed"}, HTTPStatus.UNAUTHORIZED),
        ({"authorization": f"Bearer {KEY}"}, HTTPStatus.OK),
        ({"cookie": f"key-81={KEY}"}, HTTPStatus.OK),
    ],
)
async def test_what_is_behind_the_key(headers: dict[str, str], status: int) -> None:
    assert (await ask("/api/log", **headers))[0] == status
    assert (await ask("/", **headers))[0] == HTTPStatus.OK  # the page's files are no secret


async def test_a_link_leaves_the_key_in_a_cookie_and_not_in_the_address() -> None:
    status, headers = await ask("/", f"key={KEY}&view=log")
    assert (status, headers["location"]) == (HTTPStatus.SEE_OTHER, "/?view=log")
    assert headers["set-cookie"].startswith(f"key-81={KEY};")
    assert "HttpOnly" in headers["set-cookie"]
    assert (await ask("/api/log", "key=guessed"))[0] == HTTPStatus.UNAUTHORIZED
