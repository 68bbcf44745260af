"""Compute the state as of any sequence or time, from the newest snapshot that is not later, and the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from mafalda.bus.protocol import Bus
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record, read_log
from mafalda.projection.fold import fold
from mafalda.projection.state import State
from mafalda.snapshot.state import state_of
from mafalda.snapshot.store import read_snapshot


def apply_record(state: State, entry: Record) -> None:
    """Fold one record; one that cannot be decoded changes the sequence only."""
    address = entry.address
    if entry.message is not None and address is not None:
        fold(state, entry.seq, address, entry.message.data)
    else:
        state.seq = max(state.seq, entry.seq)


async def replay(
    entries: AsyncIterator[Record], *, seq: int | None = None, at: datetime | None = None, state: State | None = None
) -> State:
    """The state as of a sequence, a time, or the end of the entries.

    Args:
        entries: Records in log order.
        state: That before the first of them; ``None``: that before the log's first entry.
        seq: Stop after this sequence.
        at: Stop before the first message with a later time.
    """
    state = state or State()
    async for entry in entries:
        if seq is not None and entry.seq > seq:
            break
        if at is not None and entry.message is not None and entry.message.time > at:
            break
        apply_record(state, entry)
    return state


async def current_state(bus: Bus) -> State:
    """The state as of now.

    Raises:
        SnapshotMissing: The log's beginning has been discarded, and no snapshot is whole.
        BusUnavailable: The log or the snapshots cannot be read.
    """
    state = state_of(await read_snapshot(bus))
    return await replay(read_log(bus, *LOG_SUBJECTS, after_seq=state.seq), state=state)


async def snapshot_before(bus: Bus, *, seq: int | None, at: datetime | None) -> State | None:
    """The state by the newest snapshot, if it is not later than a sequence or a time."""
    snapshot = await read_snapshot(bus)
    if snapshot is None or (seq is not None and snapshot.seq > seq):
        return None
    if at is not None and snapshot.seq and await bus.stored_at(snapshot.seq) > at:
        return None
    return state_of(snapshot)
