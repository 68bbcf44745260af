"""Errors as problem details (RFC 9457), and bodies within their limit."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import TypeVar

import orjson
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mafalda import errors
from mafalda.errors import MafaldaError
from mafalda.http.models import Problem
from mafalda.media.model import Model

B = TypeVar("B", bound=Model)

MAX_BODY_BYTES = 64 * 1024
MEDIA_TYPE = "application/problem+json"

#: The status of each class of error; the first that fits.
_STATUSES: tuple[tuple[type[MafaldaError], HTTPStatus], ...] = (
    (errors.BadToken, HTTPStatus.UNAUTHORIZED),
    (errors.MessageTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.UnsupportedError, HTTPStatus.NOT_IMPLEMENTED),
    (errors.BadInput, HTTPStatus.BAD_REQUEST),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.NotJoined, HTTPStatus.NOT_FOUND),
    (errors.NotGranted, HTTPStatus.FORBIDDEN),
    (errors.RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.NoCapacity, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.Refused, HTTPStatus.CONFLICT),
    (errors.LogTruncated, HTTPStatus.GONE),
    (errors.DeadlineExceeded, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.Broken, HTTPStatus.SERVICE_UNAVAILABLE),
)


def problem_of(error: MafaldaError) -> Problem:
    """The problem that an error is."""
    status = next((it for kind, it in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return Problem(
        type=f"urn:mafalda:error:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.reason,
        code=error.code,
        details={key: value if isinstance(value, int | float) else str(value) for key, value in error.details.items()},
    )


def problem_response(error: MafaldaError) -> Response:
    """An error as a response."""
    problem = problem_of(error)
    headers = {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.RateLimited):
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    return Response(orjson.dumps(problem.to_json_dict()), problem.status, headers, media_type=MEDIA_TYPE)


async def on_error(_: Request, error: Exception) -> Response:
    """An error that reached the application, as a response."""
    return problem_response(error if isinstance(error, MafaldaError) else MafaldaError("internal error"))


async def on_http_error(_: Request, error: Exception) -> Response:
    """No such path, or no such method of it."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = "not-found" if status == HTTPStatus.NOT_FOUND else "bad-input"
    problem = Problem(
        type=f"urn:mafalda:error:{code}", title=status.phrase, status=status, detail=status.description, code=code
    )
    body = orjson.dumps(problem.to_json_dict())
    return Response(body, status, dict(error.headers or {}), media_type=MEDIA_TYPE)


async def read_body(request: Request) -> bytes:
    """The body.

    Raises:
        MessageTooLarge: It has more than ``MAX_BODY_BYTES``.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise errors.MessageTooLarge("the body is too large", limit_bytes=MAX_BODY_BYTES)
    return body


def parse_body(model: type[B], body: bytes) -> B:
    """A body, of which each field has a default if it is empty.

    Raises:
        BadInput: It is not as the OpenAPI document says; the error names the first place.
    """
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise errors.BadInput("the body is not as it must be", place=place, problem=first["msg"]) from None
