"""The schema of another mediasoup version, put together from ours and the generated differences.

What does not belong here: which versions there are and who may speak (``choose``), what a difference means (``rules``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.fbs import schema as ours
from mafalda.mediasoup.fbs.differences import SCHEMAS

#: Fields that old schemas call required and old workers left out all the same; libraries look whether they are there.
LEFT_OUT = (("FBS.PlainTransport.ConnectResponse", "tuple"), ("FBS.Consumer.LayersChangeNotification", "layers"))


@cache
def schema_of(version: str) -> Schema:
    """The schema that a published version speaks.

    Raises:
        KeyError: It is not among the published versions.
    """
    tables: dict[str, Any] = dict(ours.TABLES)
    enums: dict[str, Any] = dict(ours.ENUMS)
    unions: dict[str, Any] = dict(ours.UNIONS)
    for versions, other_tables, other_enums, other_unions in SCHEMAS:
        tables |= other_tables
        enums |= other_enums
        unions |= other_unions
        if version in versions:
            for table, left_out in LEFT_OUT:
                tables[table] = tuple(
                    (name, offset, type_, None if name == left_out else default)
                    for name, offset, type_, default in tables[table]
                )
            return Schema(tables, enums, unions)
    raise KeyError(version)
