"""Requests of commands to the auth service."""

from __future__ import annotations

from typing import Any

import click
import orjson
from pydantic import ValidationError

from mafalda.media.model import Model


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
