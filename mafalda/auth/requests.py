"""Requests to the auth service, of operators and applications."""

from __future__ import annotations

from typing import Any

import orjson

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.errors import BusUnavailable, DeadlineExceeded

#: Seconds. The auth service looks for connections three times, half a second each.
TIMEOUT_S = 15.0


async def ask_auth_service(connection: Connection, subject: str, request: bytes) -> dict[str, Any]:
    """What the auth service reports.

    Args:
        connection: With the nkey of an operator or an application.
        subject: ``REVOKE_REQUEST`` or ``GRANT_REQUEST``.
        request: In JSON, or a token that is to be revoked.

    Raises:
        BusUnavailable: None is there: the fleet is open, or the service is away.
        DeadlineExceeded: It did not answer in time.
        MafaldaError: It refused.
    """
    try:
        answer = await connection.request(subject, request, timeout_s=TIMEOUT_S)
    except Unanswered as error:
        if error.reason == "no-responders":
            raise BusUnavailable("no auth service runs: an open fleet has none") from None
        raise DeadlineExceeded("the auth service did not answer", reason=error.reason) from None
    report: dict[str, Any] = orjson.loads(answer.data)
    if refusal := report.get("error"):
        raise ErrorInfo(code=refusal["code"], message=refusal["message"]).to_error()
    return report
