"""What the monitor knows of a running fleet: the state, loads, problems, checkpoints, and who listens to the log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.bus.protocol import Bus, Delivery, Follower
from mafalda.contract.messages.events import LoadSampled
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.reading import read_message
from mafalda.contract.subjects import LOAD_SUBJECTS, LOG_SUBJECTS
from mafalda.errors import BadInput
from mafalda.monitor.records import Record, read_log, record
from mafalda.monitor.replay import apply_record
from mafalda.monitor.web.loads import LoadHistory
from mafalda.monitor.web.past import Checkpoints
from mafalda.monitor.web.problems import Problems
from mafalda.projection.state import State
from mafalda.snapshot.state import state_of
from mafalda.snapshot.store import read_snapshot

#: Log entries before its start that the monitor reads for problems and loads.
TAIL_ENTRIES = 20_000
#: Log entries that may wait for one listener; what is older is left out and counted.
LISTENER_ENTRIES = 2_000
#: Over which the log's rate is computed, in seconds.
RATE_S = 10


class Watcher:
    """The fleet as it is now. Its attributes are for reading only."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.loads = LoadHistory()
        self.problems = Problems()
        self.problems_since_seq = state.seq
        self.checkpoints = Checkpoints()
        self._listeners: set[BoundedQueue[Record]] = set()
        self._entries: deque[datetime] = deque(maxlen=100_000)

    @contextmanager
    def listening(self) -> Iterator[BoundedQueue[Record]]:
        """Log entries from now on, as long as the block."""
        queue: BoundedQueue[Record] = BoundedQueue(LISTENER_ENTRIES, overflow="drop-oldest")
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def log_rate(self, now: datetime) -> float:
        """Log entries a second."""
        while self._entries and (now - self._entries[0]).total_seconds() > RATE_S:
            self._entries.popleft()
        return len(self._entries) / RATE_S

    def entry(self, entry: Record, now: datetime) -> None:
        """Take a new log entry in."""
        apply_record(self.state, entry)
        self.checkpoints.note(self.state)
        self._entries.append(now)
        self.about(entry)
        for queue in self._listeners:
            queue.put(entry)

    def about(self, entry: Record) -> None:
        """Take in what an entry says of problems and loads."""
        self.problems.add(entry)
        if entry.message is not None and isinstance(entry.message.data, LoadSampled):
            self.loads.add(entry.message.time, entry.message.data.load)

    def load(self, delivery: Delivery) -> None:
        """Take a load report in; one that cannot be read leaves its server without a load."""
        try:
            _, message = read_message(delivery.subject, delivery.data)
        except BadInput:
            return
        if isinstance(message.data, ServerLoad):
            self.loads.add(message.time, message.data)


@asynccontextmanager
async def watching(bus: Bus) -> AsyncIterator[Watcher]:
    """A watcher that follows the fleet as long as the block.

    Raises:
        BusUnavailable: The log or the snapshots cannot be read.
    """
    watcher = Watcher(state_of(await read_snapshot(bus)))
    after_seq = watcher.state.seq
    tail_seq = max(0, after_seq - TAIL_ENTRIES)
    watcher.problems_since_seq = max(tail_seq + 1, (await bus.log_usage()).first_seq)
    if after_seq:
        async for entry in read_log(bus, *LOG_SUBJECTS, after_seq=tail_seq, up_to_seq=after_seq):
            watcher.about(entry)
    async with (
        bus.listen(*LOAD_SUBJECTS) as reports,
        bus.follow(*LOG_SUBJECTS, after_seq=after_seq) as follower,
        asyncio.TaskGroup() as group,  # if the log cannot be followed any more, the block is cancelled
    ):
        tasks = (
            group.create_task(_follow_log(watcher, follower), name="monitor: log"),
            group.create_task(_follow_loads(watcher, bus, reports), name="monitor: loads"),
        )
        try:
            yield watcher
        finally:
            for task in tasks:
                task.cancel()


async def _follow_log(watcher: Watcher, follower: Follower) -> None:
    async for delivery in follower:
        watcher.entry(record(delivery), datetime.now(UTC))


async def _follow_loads(watcher: Watcher, bus: Bus, reports: AsyncIterator[Delivery]) -> None:
    for delivery in await bus.latest_loads():
        watcher.load(delivery)
    async for delivery in reports:
        watcher.load(delivery)
