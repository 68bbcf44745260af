"""JetStream's API as plain JSON requests, repeated while nobody answers.

What does not belong here: which streams there are (``streams``), reading many entries (``log``).
Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import orjson
import structlog

from mafalda.bus.nats.connection import Connection, Unanswered
from mafalda.errors import BusUnavailable

_log = structlog.get_logger(__name__)

_RETRY_WAIT_S = 0.1


class ApiRefused(Exception):
    """JetStream said no. Never leaves the bus. Source of the codes: nats-server's ``server/errors.json``."""

    NO_MESSAGE = 10037
    NO_CONSUMER = 10014
    NAME_IN_USE = 10058
    NO_STREAM = 10059

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


def parse_answer(raw: bytes) -> dict[str, Any]:
    """An answer of the API, or a publish's acknowledgement.

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
    """One call, repeated until it is answered; so it must be one that may be repeated.

    Args:
        connection: Where.
        name: Without the prefix ``$JS.API.``.
        body: ``None`` is an empty request.
        timeout_s: For all attempts together; ``None`` is the configured ``append_timeout_s``, which outlasts
            the loss of a leader.

    Raises:
        ApiRefused: JetStream said no.
        BusUnavailable: No answer in time, or JetStream is not there.
        PermissionDenied: This credential may not.
    """
    config = connection.config
    total_s = config.append_timeout_s if timeout_s is None else timeout_s
    deadline = asyncio.get_running_loop().time() + total_s
    raw = orjson.dumps(body) if body is not None else b""
    reason = "timeout"
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            answer = await connection.request(f"$JS.API.{name}", raw, timeout_s=min(left, config.api_timeout_s))
            return parse_answer(answer.data)
        except Unanswered as unanswered:
            reason = unanswered.reason
        except ApiRefused as refused:
            if refused.code != 503:  # 503 is "not now": no leader, no meta leader, starting up
                raise
            reason = str(refused)
        _log.debug("jetstream-repeat", action="jetstream-repeat", call=name, reason=reason)
        await asyncio.sleep(_RETRY_WAIT_S)
    raise BusUnavailable("JetStream did not answer", call=name, reason=reason, timeout_s=total_s)


def parse_headers(encoded: str | None) -> dict[str, str]:
    """The headers of a stored message, as the API gives them (base64)."""
    if not encoded:
        return {}
    lines = b64decode(encoded).decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
