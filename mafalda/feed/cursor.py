"""How far a named reader of the log has come, kept in NATS beside the snapshots."""

from __future__ import annotations

import orjson

from mafalda.bus.protocol import Bus
from mafalda.contract.ids import check_id
from mafalda.errors import Conflict, MafaldaError, MalformedMessage

_PREFIX = "cursor."


class CursorMoved(MafaldaError):
    """Another reader uses the cursor, and has moved it."""

    code = "cursor-moved"


class Cursor:
    """One reader's position. Get it from ``open``.

    Of two readers with one cursor the one that opened it last goes on: the other gets an error when it next saves.
    """

    def __init__(self, bus: Bus, name: str, seq: int, version: int) -> None:
        self._bus = bus
        self._name = name
        self._version = version
        #: The log sequence up to which everything has been handled.
        self.seq = seq

    @classmethod
    async def open(cls, bus: Bus, name: str, *, begin_seq: int) -> Cursor:
        """Find a cursor, or create it.

        Args:
            bus: Where it is kept.
            name: An id as those of rooms.
            begin_seq: The position of one that is new.

        Raises:
            IllegalId: The name is none.
            MalformedMessage: What is stored there is no cursor.
            BusUnavailable: NATS does not answer.
        """
        key = _PREFIX + check_id("cursor", name)
        found = await bus.snapshots.get(key)
        seq = _read(name, found.data) if found else begin_seq
        cursor = cls(bus, name, seq, found.version if found else 0)
        await cursor.save(seq)  # a reader that has it open notices
        return cursor

    async def save(self, seq: int) -> None:
        """Move it.

        Raises:
            CursorMoved: Another reader has opened it.
            BusUnavailable: NATS does not answer.
        """
        key = _PREFIX + self._name
        try:
            data = orjson.dumps({"seq": seq})
            self._version = await self._bus.snapshots.put(key, data, last_version=self._version)
        except Conflict:
            raise CursorMoved("another reader uses this cursor", cursor=self._name) from None
        self.seq = seq


def _read(name: str, data: bytes) -> int:
    try:
        seq = orjson.loads(data)["seq"]
    except (ValueError, KeyError, TypeError):
        seq = None
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
        raise MalformedMessage("this is no cursor", cursor=name)
    return seq
