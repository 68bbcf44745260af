"""Requests of commands to the auth service."""

from __future__ import annotations

from typing import Any

import click
import orjson
from pydantic import ValidationError

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.errors import BusUnavailable
from mafalda.media.model import Model

TIMEOUT_S = 15.0


def as_request(model: type[Model], **fields: Any) -> bytes:
    """A request, checked.

    Raises:
        click.UsageError: A field is not as it must be.
    """
    try:
        return orjson.dumps(model.model_validate(fields).to_json_dict())
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise click.UsageError("; ".join(problems)) from None


async def ask_auth_service(connection: Connection, subject: str, request: bytes) -> dict[str, Any]:
    """What the auth service reports.

    Raises:
        BusUnavailable: None answered.
        MafaldaError: It refused.
    """
    try:
        answer = await connection.request(subject, request, timeout_s=TIMEOUT_S)
    except Unanswered as error:
        raise BusUnavailable("no auth service answered", reason=error.reason) from None
    report: dict[str, Any] = orjson.loads(answer.data)
    if refusal := report.get("error"):
        raise ErrorInfo(code=refusal["code"], message=refusal["message"]).to_error()
    return report
