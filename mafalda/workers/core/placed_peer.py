"""The state machine of a peer's placement on this server: which intents are still to be handled, and when it ends."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from mafalda.contract.messages.commands import PlacePeer
from mafalda.errors import MafaldaError, WorkerExited
from mafalda.workers.core.instructions import AdoptPeer, Entry, EvictPeer, HandleIntent, Instruction

#: Intents remembered by id for each peer; the log's own deduplication covers the rest of the time.
REMEMBERED = 1024
#: How often a session that fails before it is ready is started again.
MAX_RESTARTS = 1


@dataclass(slots=True)
class PlacedPeer:
    """One placement (generation) of one peer on this server.

    ======= ====================================== ======= =====================================================
    state   what happens                           next    instructions
    ======= ====================================== ======= =====================================================
    placing an intent is read                      placing none; the intent is kept
    placing the session is ready                   ready   HandleIntent for each kept or missed intent, once
    placing the session's task fails               placing AdoptPeer again, at most ``MAX_RESTARTS`` times
    placing it fails once more                     ended   EvictPeer, which rejects the join
    placing the worker refuses                     ended   EvictPeer, which rejects the join
    placing the worker is dead                     ended   none; an allocator places the peer elsewhere
    ready   an intent is read                      ready   HandleIntent, unless it was handled already
    ready   the session's task fails               ended   EvictPeer: clients cannot know which objects are left
    any     peer left, moved, or its worker died   ended   by the machine, which drops the placement
    ======= ====================================== ======= =====================================================
    """

    command: PlacePeer
    entry: Entry
    state: Literal["placing", "ready", "ended"] = "placing"
    _unready: list[Entry] = field(default_factory=list)
    _seen_seq: int = 0
    _handled: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _restarts: int = 0

    @property
    def room(self) -> str:
        """The room's id."""
        return self.command.room

    @property
    def peer(self) -> str:
        """The peer's id."""
        return self.command.peer

    @property
    def worker(self) -> str:
        """The worker of this server on which the peer is placed."""
        return self.command.worker

    @property
    def generation(self) -> int:
        """How often the peer has been placed, this time included."""
        return self.command.generation

    def intent(self, entry: Entry) -> list[Instruction]:
        """An intent of the peer was read."""
        if self.state == "placing":
            self._unready.append(entry)
            return []
        return self._handle(entry)

    def ready(self, missed: list[Entry]) -> list[Instruction]:
        """The session takes intents. Those that were read or missed meanwhile are handled in the log's order."""
        self.state = "ready"
        entries = {entry.seq: entry for entry in (*missed, *self._unready)}
        self._unready.clear()
        return [instruction for seq in sorted(entries) for instruction in self._handle(entries[seq])]

    def refused(self, error: MafaldaError) -> list[Instruction]:
        """The worker did not make what the session needs."""
        return self._end(error)

    def task_failed(self, error: MafaldaError) -> list[Instruction]:
        """The session's task has ended by an unexpected exception."""
        if self.state == "placing" and self._restarts < MAX_RESTARTS:
            self._restarts += 1
            return [AdoptPeer(self.command, self.entry)]
        return self._end(error)

    def _end(self, error: MafaldaError) -> list[Instruction]:
        reject_join = self.state == "placing"
        self.state = "ended"
        if isinstance(error, WorkerExited):
            return []
        return [EvictPeer(self.command, self.entry, error, reject_join)]

    def _handle(self, entry: Entry) -> list[Instruction]:
        """Handle an intent of this placement that is new, or each one of a batch."""
        if entry.seq <= self._seen_seq:
            return []
        self._seen_seq = entry.seq
        return [HandleIntent(self.room, self.peer, it) for it in entry.unbatched() if self._is_new(it.message.id)]

    def _is_new(self, id: str) -> bool:
        if id in self._handled or id == self.command.join:
            return False
        self._handled[id] = None
        if len(self._handled) > REMEMBERED:
            self._handled.popitem(last=False)
        return True
