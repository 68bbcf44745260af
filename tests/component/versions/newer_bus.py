"""A bus on which everybody else is of the next version: known messages have unknown fields, and unknown ones come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mafalda.bus.protocol import Appended, Delivery
from mafalda.testing.memory_bus import MemoryBroker

UNKNOWN = "from-the-future"


class NewerBroker(MemoryBroker):
    """Adds fields to each message, and after each one that is stored stores one of a type that nobody knows.

    Args:
        without: Kinds of messages after which none of an unknown type comes.
    """

    def __init__(self, *, without: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.unknown = 0
        self._without = without

    def store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> Appended:
        done = super().store(subject, extended(data), headers)
        fields = orjson.loads(data)
        kind = fields["type"].split(".")[1]
        if not done.duplicate and kind not in self._without and not subject.endswith(UNKNOWN):
            self.unknown += 1
            fields |= {"type": f"mafalda.{kind}.{UNKNOWN}.v1", "id": f"{UNKNOWN}-{self.unknown}"}
            super().store(f"{subject.rpartition('.')[0]}.{UNKNOWN}", orjson.dumps(fields), {})
        return done

    def send(self, delivery: Delivery) -> int:
        return super().send(delivery._replace(data=extended(delivery.data)))


def extended(raw: bytes) -> bytes:
    """A message with unknown attributes, unknown data, and unknown fields one level inside the data."""
    fields: dict[str, Any] = orjson.loads(raw)
    data = {
        key: {**value, "future": True} if isinstance(value, dict) and key != "appData" else value
        for key, value in fields["data"].items()
    }
    return orjson.dumps({**fields, "futureattribute": "1", "data": {**data, "future": {"nested": [1, 2]}}})
