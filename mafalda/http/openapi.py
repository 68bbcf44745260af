"""The OpenAPI 3.1 document, made of the table of operations. Pure."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mafalda.contract.ids import ID_PATTERN
from mafalda.http.models import Problem
from mafalda.http.operations import OPERATIONS, Operation
from mafalda.http.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_DESCRIPTION = (
    "Rooms, peers and tokens of a Mafalda fleet, for servers of applications. A repeated POST or PUT of a room's or "
    "peer's intent with the same `Idempotency-Key`, path and body gets the outcome of the first one."
)


def openapi_document() -> dict[str, Any]:
    """The document."""
    models: list[type[BaseModel]] = [Problem]
    models += [model for it in OPERATIONS for model in (it.body, it.answer) if model is not None]
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], by_alias=True, ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mafalda", "version": version("mafalda"), "description": _DESCRIPTION},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [_parameter("path", name, required=True) for name in re.findall(r"{(\w+)}", operation.path)]
    parameters += [_parameter("query", name, about=about) for name, about in operation.query]
    if operation.answer is None:
        parameters.append(_parameter("header", "Last-Event-ID", about="The log sequence after which to go on."))
        content: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
    else:
        content = _content("application/json", operation.answer)
    if operation.method != "GET" and operation.path.startswith("/rooms"):
        parameters.append(_parameter("header", "Idempotency-Key", about="1 to 255 characters, new for each wish."))
    document: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.about,
        "parameters": parameters,
        "responses": {
            str(int(operation.status)): {"description": "Done.", "content": content},
            "default": {"description": "A problem; `code` says which.", "content": _content(MEDIA_TYPE, Problem)},
        },
    }
    if operation.body is not None:
        document["requestBody"] = {"content": _content("application/json", operation.body)}
    return document


def _content(media_type: str, model: type[BaseModel]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _parameter(place: str, name: str, *, required: bool = False, about: str = "") -> dict[str, Any]:
    pattern = {"pattern": ID_PATTERN} if place == "path" else {}
    found: dict[str, Any] = {"in": place, "name": name, "schema": {"type": "string", **pattern}}
    if required:
        found["required"] = True
    if about:
        found["description"] = about
    return found
