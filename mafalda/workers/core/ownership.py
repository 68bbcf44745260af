"""Which intents of a peer are still to be done: a peer's place here, and what was done at it.

What does not belong here: how intents are done.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from mafalda.workers.core.instructions import Entry

#: Intents remembered by id for each peer; the log's own deduplication covers the rest of the time.
REMEMBERED = 1024


@dataclass(slots=True)
class OwnPeer:
    """A peer that has its place on this server."""

    room: str
    peer: str
    worker: str
    generation: int
    join: str
    ready: bool = False
    early: list[Entry] = field(default_factory=list)
    seen_seq: int = 0
    done: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def take(self, entry: Entry) -> bool:
        """Whether this intent is to be done now: it is new, and of this placement."""
        if entry.seq <= self.seen_seq:
            return False
        self.seen_seq = entry.seq
        if entry.message.id in self.done or entry.message.id == self.join:
            return False
        self.done[entry.message.id] = None
        if len(self.done) > REMEMBERED:
            self.done.popitem(last=False)
        return True

    def settle(self, missed: list[Entry]) -> list[Entry]:
        """The peer is here now. What was asked meanwhile, each once and in order, is to be done."""
        self.ready = True
        asked = {entry.seq: entry for entry in (*missed, *self.early)}
        self.early.clear()
        return [asked[seq] for seq in sorted(asked) if self.take(asked[seq])]
