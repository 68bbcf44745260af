"""The ASGI application: each request's token and body are checked, then its operation is carried out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mafalda.auth.revocations import is_revoked
from mafalda.auth.tokens import ApplicationToken, TokenKeys
from mafalda.errors import MafaldaError
from mafalda.http.access import Access
from mafalda.http.control import Control
from mafalda.http.openapi import openapi_document
from mafalda.http.operations import OPERATIONS, Call, Operation, Services, body_of, idempotency_key
from mafalda.http.problems import on_error, on_http_error, read_body
from mafalda.http.streams import Streams

_log = structlog.get_logger(__name__)


def http_application(control: Control, keys: TokenKeys | None) -> Starlette:
    """The application.

    Args:
        control: Open as long as the application is served.
        keys: Verify the tokens of callers, and mint those of participants. ``None``: everybody who reaches it may do
            everything, as in an open fleet.
    """

    async def is_token_revoked(token: ApplicationToken) -> bool:
        return await is_revoked(control.bus.connection, token.id)

    services = Services(control, Streams(control.bus, is_token_revoked), keys)
    access = Access(keys, control.bus.connection) if keys is not None else None
    document = orjson.dumps(openapi_document())

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [Route(it.path, _endpoint(it, services, access), methods=[it.method], name=it.id) for it in OPERATIONS]
    return Starlette(
        routes=[Route("/openapi.json", openapi), *routes],
        exception_handlers={MafaldaError: on_error, HTTPException: on_http_error, Exception: on_error},
    )


def _endpoint(
    operation: Operation, services: Services, access: Access | None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        token = await access.check(request) if access is not None else None
        body = body_of(operation, await read_body(request)) if operation.method != "GET" else None
        answer = await operation.handler(Call(services, request, body, token, idempotency_key(request)))
        if operation.method != "GET":
            _log.info("http request", action="http_request", operation=operation.id, **request.path_params)
        if isinstance(answer, Response):
            return answer
        headers = {"Cache-Control": "no-store"}
        data = orjson.dumps(answer.to_json_dict())
        return Response(data, operation.status, headers, media_type="application/json")

    return endpoint
