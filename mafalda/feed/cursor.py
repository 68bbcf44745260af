"""How far a named reader of the log has come, kept in NATS beside the snapshots."""

from __future__ import annotations

import secrets

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
        self._key = _PREFIX + name
        self._name = name
        self._version = version
        self._reader = secrets.token_hex(8)
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
        found = await bus.snapshots.get(_PREFIX + check_id("cursor", name))
        seq = _read(name, found.data)[0] if found else begin_seq
        cursor = cls(bus, name, seq, found.version if found else 0)
        await cursor.save(seq)  # a reader that has it open notices
        return cursor

    async def save(self, seq: int) -> None:
        """Move it.

        Raises:
            CursorMoved: Another reader has opened it.
            BusUnavailable: NATS does not answer.
        """
        data = orjson.dumps({"seq": seq, "reader": self._reader})
        try:
            self._version = await self._bus.snapshots.put(self._key, data, last_version=self._version)
        except Conflict:
            self._version = await self._own_version()
            try:
                self._version = await self._bus.snapshots.put(self._key, data, last_version=self._version)
            except Conflict:
                raise self._moved() from None
        self.seq = seq

    async def _own_version(self) -> int:
        """The version of a move that was stored although its acknowledgement was lost.

        Raises:
            CursorMoved: The last move is another reader's.
        """
        found = await self._bus.snapshots.get(self._key)
        if found is None or _read(self._name, found.data)[1] != self._reader:
            raise self._moved()
        return found.version

    def _moved(self) -> CursorMoved:
        return CursorMoved("another reader uses this cursor", cursor=self._name)


def _read(name: str, data: bytes) -> tuple[int, str]:
    """The position, and who moved it last."""
    try:
        stored = orjson.loads(data)
        seq, reader = stored["seq"], str(stored["reader"])
    except (ValueError, KeyError, TypeError):
        seq = reader = None
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0 or reader is None:
        raise MalformedMessage("this is no cursor", cursor=name)
    return seq, reader
