"""States of the past: the nearest checkpoint that is not later, and the log from there on.

Checkpoints are made while the log is followed, every ``EVERY`` entries, and thinned out when there are many. What is
older than the first of them comes from NATS' snapshot or from the archive.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import orjson

from mafalda.bus.protocol import Bus
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record
from mafalda.monitor.replay import replay
from mafalda.projection.codec import add_room, add_server, room_to_json, server_to_json
from mafalda.projection.state import State

#: Log entries between two checkpoints: half a second of folding.
EVERY = 10_000
MAX_CHECKPOINTS = 64
#: States of the past that are kept as they are: a slider comes back to them.
MAX_STATES = 4


class History(Protocol):
    """The log and the archive as one (``mafalda.cli.history``)."""

    @property
    def bus(self) -> Bus: ...

    async def first_seq(self) -> int: ...

    async def state_before(self, *, seq: int | None, at: datetime | None) -> State: ...

    def read(
        self,
        *patterns: str,
        after_seq: int = 0,
        up_to_seq: int | None = None,
        since: datetime | None = None,
        whole: bool = False,
    ) -> AsyncIterator[Record]: ...


class Checkpoints:
    """States as of some sequences, compressed."""

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._packed: dict[int, bytes] = {}
        self._next = 0

    @property
    def seqs(self) -> list[int]:
        """The sequences that there are checkpoints of, ascending."""
        return list(self._packed)

    def note(self, state: State) -> None:
        """Make a checkpoint of a state if enough entries have come since the last."""
        if state.seq < self._next:
            return
        self._packed[state.seq] = _pack(state)
        if len(self._packed) > MAX_CHECKPOINTS:
            self._packed = {seq: raw for number, (seq, raw) in enumerate(self._packed.items()) if number % 2 == 0}
            self._every *= 2
        self._next = state.seq + self._every

    def before(self, seq: int) -> State | None:
        """The last state that is not later than a sequence."""
        found = max((known for known in self._packed if known <= seq), default=None)
        return _unpack(found, self._packed[found]) if found is not None else None


class Past:
    """States as of any sequence; each is for reading only."""

    def __init__(self, history: History, checkpoints: Checkpoints) -> None:
        self._history = history
        self._checkpoints = checkpoints
        self._states: OrderedDict[int, State] = OrderedDict()
        self._lock = asyncio.Lock()

    async def state(self, seq: int) -> State:
        """The state as of a sequence.

        Raises:
            LogTruncated: The log begins later, and there is no archive.
        """
        async with self._lock:  # a slider that is moved asks for many: one after the other
            if seq not in self._states:
                self._states[seq] = await self._compute(seq)
                while len(self._states) > MAX_STATES:
                    self._states.popitem(last=False)
            self._states.move_to_end(seq)
            return self._states[seq]

    async def seq_at(self, at: datetime) -> int:
        """The last log entry that was stored at a time or before; 0: there is none."""
        bus = self._history.bus
        usage = await bus.log_usage()
        low, high = usage.first_seq - 1, usage.last_seq
        if not usage.entries or await bus.stored_at(usage.first_seq) > at:
            state = await self._history.state_before(seq=None, at=at)
            entries = self._history.read(*LOG_SUBJECTS, after_seq=state.seq, up_to_seq=low, since=at)
            return (await replay(entries, state=state, at=at)).seq
        while low < high:
            middle = (low + high + 1) // 2
            if await bus.stored_at(middle) <= at:
                low = middle
            else:
                high = middle - 1
        return low

    async def _compute(self, seq: int) -> State:
        state = self._checkpoints.before(seq)
        if state is None:
            state = await self._history.state_before(seq=seq, at=None)
        entries = self._history.read(*LOG_SUBJECTS, after_seq=state.seq, up_to_seq=seq, whole=True)
        return await replay(entries, state=state, seq=seq)


def _pack(state: State) -> bytes:
    servers = [server_to_json(server) for server in state.servers.values()]
    rooms = [room_to_json(room) for room in state.rooms.values()]
    return zlib.compress(orjson.dumps([servers, rooms]), level=1)


def _unpack(seq: int, packed: bytes) -> State:
    servers, rooms = orjson.loads(zlib.decompress(packed))
    state = State(seq=seq)
    for server in servers:
        add_server(state, server)
    for room in rooms:
        add_room(state, room)
    return state
