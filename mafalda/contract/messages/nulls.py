"""Find fields that are ``null`` where the JSON Schemas have no ``null``: a field without a value is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from mafalda.media.model import Model

Location = tuple[int | str, ...]


def null_fields(model: type[Model], data: Any, location: Location = ()) -> Iterator[Location]:
    """Yield where ``data`` has a field of ``model``, or of a model inside it, that is ``null``.

    What the models leave open (application data, codec parameters, statistics) may hold ``null``.

    Args:
        model: The model that ``data`` is to be validated by.
        data: JSON, as it was read.
        location: Where ``data`` is in the message.
    """
    if isinstance(data, list):
        for number, item in enumerate(data):
            yield from null_fields(model, item, (*location, number))
    elif isinstance(data, dict):
        for name, inner in _fields(model).items():
            if name not in data:
                continue
            if data[name] is None:
                yield (*location, name)
            elif inner is not None:
                yield from null_fields(inner, data[name], (*location, name))


@cache
def _fields(model: type[Model]) -> Mapping[str, type[Model] | None]:
    """The fields by their names in JSON, each with the model that it holds, alone or in a list."""
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
