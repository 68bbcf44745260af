"""Write snapshots of the view, and discard what they and the archive cover of the log.

Any allocator may write. Each looks first whether another one has written lately, and a snapshot is stored only in place
of the one that its writer knew; so several that write at once do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.state.snapshot import MAX_OPEN_INTENTS, RoomBytes, capture_fleet
from mafalda.allocator.core.state.view import View
from mafalda.allocator.runner.clock import Clock
from mafalda.bus.protocol import Bus
from mafalda.errors import MafaldaError
from mafalda.snapshot.retention import discard_covered
from mafalda.snapshot.store import newest_manifest, write_snapshot

#: Rooms whose JSON is written before other tasks run: 1 to 2 ms for rooms of 20 peers.
_SLICE = 4
_log = structlog.get_logger("mafalda.allocator")


class SnapshotWriter:
    """Writes snapshots of a view.

    Args:
        bus: Connected.
        config: When to write, and how much of the log to keep.
        clock: Of the allocator.
        view: What is written; read only.
        jitter: A number from 0 to 1; allocators with different ones do not write at the same moment.
    """

    def __init__(
        self, bus: Bus, config: AllocatorConfig, clock: Clock, view: View, jitter: Callable[[], float]
    ) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._view = view
        self._jitter = jitter
        self._rooms = RoomBytes(view)

    async def run(self) -> None:
        """Write until cancelled. What fails is tried again next time; the log keeps what no snapshot covers."""
        while True:
            await self._clock.sleep(self._config.snapshot_interval_s * (1 + self._jitter() / 2))
            try:
                if await self._is_due():
                    await self.write()
                first_seq = await discard_covered(
                    self._bus, max_age_s=self._config.log_keep_s, max_bytes=self._config.log_keep_bytes
                )
                self._view.forget_before(first_seq)
            except MafaldaError as error:
                _log.warning("no snapshot", action="snapshot_failed", outcome=error.code, reason=str(error))

    async def _is_due(self) -> bool:
        newest = await newest_manifest(self._bus)
        behind = self._view.seq - (newest.seq if newest else 0)
        return behind >= self._config.snapshot_min_entries

    async def write(self) -> bool:
        """Write a snapshot as of now. Returns whether it was stored.

        Raises:
            BusUnavailable: It was not.
        """
        if len(self._view.open_intents) > MAX_OPEN_INTENTS:
            _log.info("snapshot postponed", action="snapshot_postponed", reason="many intents are open")
            return False
        started = self._clock.now()
        while self._rooms.pending > _SLICE:
            self._rooms.update(_SLICE)
            await asyncio.sleep(0)
        # In one go, so that everything is as of the same entry.
        seq, rooms, fleet = self._view.seq, self._rooms.take(), capture_fleet(self._view)
        manifest = await write_snapshot(self._bus, seq, fleet, rooms)
        if manifest:
            _log.info(
                "snapshot",
                action="snapshot_written",
                allocator=self._config.name,
                snapshot_seq=seq,
                rooms=manifest.rooms,
                parts=len(manifest.parts),
                duration_s=round(self._clock.now() - started, 6),
            )
        return manifest is not None
