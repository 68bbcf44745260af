"""The base class of a message's data, and how its type is named on the wire."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import AfterValidator, Field

from mafalda.contract.ids import Id
from mafalda.media.model import Model

#: Why a peer leaves its room although it does not want to.
LeaveCause = Literal["removed", "room-ended", "revoked"]
Kind = Literal["intent", "result", "event", "command", "report", "query", "request", "answer", "notice"]


class Payload(Model):
    """The ``data`` of one kind of message. Class, schema and subject share one stem.

    ``ProducerOpened`` has the action ``producer-opened``, the type
    ``mafalda.event.producer-opened.v1`` and the schema ``schemas/event.producer-opened.v1.json``.
    """

    kind: ClassVar[Kind]
    action: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def type_name(cls) -> str:
        """The CloudEvents ``type``."""
        return f"mafalda.{cls.kind}.{cls.action}.v{cls.version}"

    @classmethod
    def schema_uri(cls) -> str:
        """The CloudEvents ``dataschema``."""
        return f"urn:mafalda:schema:{cls.kind}.{cls.action}.v{cls.version}"


class Place(Model):
    """One worker of one server."""

    server: Id
    worker: Id

    # Places are compared and looked up all the time, and pydantic's own comparison takes 4 to 10 times as long.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return self.worker == other.worker and self.server == other.server

    def __hash__(self) -> int:
        return hash((self.server, self.worker))


#: What an application may attach to one object, as JSON. It is repeated in events, commands and snapshots, each of
#: which must still fit into a message.
MAX_APP_DATA_BYTES = 16 * 1024
#: JSON writers give up on deep nesting (orjson at 254 levels), and what was read must be writable again.
MAX_APP_DATA_DEPTH = 32


def _is_carriable(value: dict[str, Any]) -> dict[str, Any]:
    if not value:
        return value
    try:
        size_bytes = len(orjson.dumps(value))
    except TypeError:
        size_bytes = None
    # Each level takes two bytes at least, so what is short is not deep.
    if (size_bytes is None or size_bytes > 2 * MAX_APP_DATA_DEPTH) and _depth_exceeds(value, MAX_APP_DATA_DEPTH):
        raise ValueError(f"nested deeper than {MAX_APP_DATA_DEPTH} levels")
    if size_bytes is None:
        raise ValueError("not JSON")
    if size_bytes > MAX_APP_DATA_BYTES:
        raise ValueError(f"{size_bytes} bytes of JSON, at most {MAX_APP_DATA_BYTES} are carried")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    children = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_depth_exceeds(child, limit - 1) for child in children)


AppData = Annotated[dict[str, Any], AfterValidator(_is_carriable)]


def app_data() -> Any:
    """The application's own data: any JSON object; Mafalda carries it and never reads it."""
    return Field(
        default_factory=dict,
        description=(
            "The application's own data; carried, never read. "
            f"At most {MAX_APP_DATA_BYTES} bytes of JSON, {MAX_APP_DATA_DEPTH} levels deep."
        ),
    )
