"""The base of a message's data, and how its type is named on the wire.

What does not belong here: particular messages (``intents``, ``commands``, ``events`` …).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.model import Model

Kind = Literal["intent", "result", "event", "command", "report", "query", "request", "answer"]


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


AppData = dict[str, Any]


def app_data() -> Any:
    """The application's own data: any JSON object; Mafalda carries it and never reads it."""
    return Field(default_factory=dict, description="The application's own data; carried, never read.")
