"""Loads rooms that get a peer or relay target here, and unsubscribes from those that have none left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.channels import SERVER_LIFECYCLE_SUBJECTS, audience_events
from mafalda.workers.core.stimuli import RoomLoaded, RoomLoadFailed, Stimulus
from mafalda.workers.errors import as_mafalda_error
from mafalda.workers.log.reader import LogReader

log = structlog.get_logger("mafalda.workers")


class RoomLoader:
    """Executes ``LoadRoom`` and ``ForgetRoom``, one after the other for each room.

    Args:
        tasks: Where they run.
        log_reader: The agent's follower, and the log's past.
        seq: The log sequence up to which the machine has read the server events.
        report: Takes ``RoomLoaded`` and ``RoomLoadFailed``.
    """

    def __init__(
        self, tasks: TaskScope, log_reader: LogReader, seq: Callable[[], int], report: Callable[[Stimulus], None]
    ) -> None:
        self._log_reader = log_reader
        self._seq = seq
        self._report = report
        self._jobs: SerialExecutor[str] = SerialExecutor(tasks, "room")

    def load(self, room: str, delay_s: float) -> None:
        """Subscribe to a room, then read its snapshot and what came after it, after ``delay_s`` seconds."""
        self._jobs.submit(room, lambda: self._load(room, delay_s))

    def forget(self, room: str) -> None:
        """Unsubscribe from a room."""
        self._jobs.submit(room, lambda: self._log_reader.remove(*_patterns(room)))

    async def _load(self, room: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            stimulus = await self._read(room)
        except Exception as error:
            log.exception("room not loaded", action="room_load_failed", room_id=room)
            self._report(RoomLoadFailed(room, as_mafalda_error(error)))
        else:
            self._report(stimulus)

    async def _read(self, room: str) -> RoomLoaded:
        patterns = _patterns(room)
        await self._log_reader.add(*patterns)
        known_seq, last_seq = self._seq(), await self._log_reader.last_seq()
        snapshot_seq, snapshot = await self._log_reader.room_snapshot(room)
        last_seq = max(last_seq, snapshot_seq)
        of_servers = await self._log_reader.past(*SERVER_LIFECYCLE_SUBJECTS, after_seq=known_seq, up_to_seq=last_seq)
        of_room = await self._log_reader.past(*patterns, after_seq=snapshot_seq, up_to_seq=last_seq)
        return RoomLoaded(room, [*of_servers, *of_room], last_seq, snapshot)


def _patterns(room: str) -> tuple[str, ...]:
    return subjects.room_event(room, "*"), subjects.room_commands(room), *audience_events(room)
