"""Calls of JetStream's API as plain JSON requests, repeated while nobody answers.

Why not by nats-py's ``JetStreamManager``: ``docs/decisions/0004-jetstream-api.md``.
Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import orjson

from mafalda.aio.retry import retrying
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.errors import BusUnavailable


class ApiRefused(Exception):
    """JetStream answered with an error. Never leaves the bus. The codes are those of nats-server's ``errors.json``."""

    NO_MESSAGE = 10037
    NO_CONSUMER = 10014
    NAME_IN_USE = 10058
    NO_STREAM = 10059

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class _NotNow(Exception):
    """JetStream cannot answer at the moment: no leader of the stream or of the cluster, or it is starting."""


def parse_answer(raw: bytes) -> dict[str, Any]:
    """Parse an answer of the API, or the acknowledgement of a publish.

    Raises:
        ApiRefused: It holds an error.
    """
    answer: dict[str, Any] = orjson.loads(raw)
    if error := answer.get("error"):
        raise ApiRefused(error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
    return answer


async def call(
    connection: Connection, name: str, body: dict[str, Any] | None = None, *, timeout_s: float | None = None
) -> dict[str, Any]:
    """Make one call of the API, repeated until it is answered; so it must be one that may be repeated.

    Args:
        connection: Where.
        name: The call's subject without the prefix ``$JS.API.``.
        body: ``None`` is an empty request.
        timeout_s: For all attempts together; ``None`` is the configured ``append_timeout_s``, which outlasts
            the loss of a leader.

    Raises:
        ApiRefused: JetStream answered with an error.
        BusUnavailable: No answer in time, or JetStream is not there.
        PermissionDenied: This credential may not.
    """
    total_s = connection.config.append_timeout_s if timeout_s is None else timeout_s
    attempt_s = min(total_s, connection.config.api_timeout_s)
    raw = orjson.dumps(body) if body is not None else b""
    deadline = asyncio.get_running_loop().time() + total_s
    reason = "timeout"
    try:
        return await _call_once(connection, name, raw, attempt_s)
    except (Unanswered, _NotNow) as error:  # rare: a retry of tenacity's costs 50 µs even where nothing fails
        reason = str(error)
    try:
        async with asyncio.timeout_at(deadline):
            async for attempt in retrying(Unanswered, _NotNow, action="jetstream_repeat", longest_s=0.5, call=name):
                with attempt:
                    try:
                        return await _call_once(connection, name, raw, attempt_s)
                    except (Unanswered, _NotNow) as error:
                        reason = str(error)
                        raise
    except TimeoutError:
        pass
    raise BusUnavailable("JetStream did not answer", call=name, reason=reason, timeout_s=total_s)


async def _call_once(connection: Connection, name: str, raw: bytes, timeout_s: float) -> dict[str, Any]:
    answer = await connection.request(f"$JS.API.{name}", raw, timeout_s=timeout_s)
    try:
        return parse_answer(answer.data)
    except ApiRefused as refused:
        if refused.code == 503:
            raise _NotNow(str(refused)) from None
        raise


def parse_headers(encoded: str | None) -> dict[str, str]:
    """Parse the headers of a stored message, as the API gives them (base64)."""
    if not encoded:
        return {}
    lines = b64decode(encoded).decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
