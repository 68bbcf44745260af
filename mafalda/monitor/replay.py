"""Compute the state as of any sequence or time from the log alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from mafalda.bus.protocol import Bus
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record, read_log
from mafalda.projection.fold import fold
from mafalda.projection.state import State


def apply_record(state: State, entry: Record) -> None:
    """Fold one record; one that cannot be decoded changes the sequence only."""
    address = entry.address
    if entry.message is not None and address is not None:
        fold(state, entry.seq, address, entry.message.data)
    else:
        state.seq = max(state.seq, entry.seq)


async def replay(entries: AsyncIterator[Record], *, seq: int | None = None, at: datetime | None = None) -> State:
    """The state as of a sequence, a time, or the end of the entries.

    Args:
        entries: Records in log order.
        seq: Stop after this sequence.
        at: Stop before the first message with a later time.
    """
    state = State()
    async for entry in entries:
        if seq is not None and entry.seq > seq:
            break
        if at is not None and entry.message is not None and entry.message.time > at:
            break
        apply_record(state, entry)
    return state


async def current_state(bus: Bus) -> State:
    """The state as of now."""
    return await replay(read_log(bus, *LOG_SUBJECTS))
