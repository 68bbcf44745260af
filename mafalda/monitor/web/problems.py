"""Count what went wrong in the log by its cause: rejected intents, dead workers, failed relays and transports. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mafalda.contract.messages.events import PeerStranded, RelayFailed, ServerLost, TransportClosed, WorkerDied
from mafalda.contract.messages.results import Rejected
from mafalda.monitor.records import Record
from mafalda.monitor.sentences import sentence

Json = dict[str, Any]


@dataclass(slots=True)
class Problem:
    """One cause: how often, and its last log entry."""

    kind: str
    cause: str
    action: str
    count: int
    first_seq: int
    last: Record

    def to_json_dict(self) -> Json:
        message, address = self.last.message, self.last.address
        return {
            "kind": self.kind,
            "cause": self.cause,
            "action": self.action,
            "count": self.count,
            "firstSeq": self.first_seq,
            "lastSeq": self.last.seq,
            "lastTime": message.time.isoformat() if message else None,
            "example": sentence(self.last),
            "room": address.room if address else None,
            "server": address.server if address else None,
        }


class Problems:
    """Problems by kind, cause and action."""

    def __init__(self, entries: Iterable[Record] = ()) -> None:
        self._found: dict[tuple[str, str, str], Problem] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Record) -> None:
        """Count an entry, if it is a problem."""
        if (key := cause_of(entry)) is None:
            return
        if known := self._found.get(key):
            known.count += 1
            known.last = entry
        else:
            self._found[key] = Problem(*key, 1, entry.seq, entry)

    def to_json_list(self) -> list[Json]:
        """Most frequent first."""
        ordered = sorted(self._found.values(), key=lambda it: (-it.count, it.cause, it.action))
        return [problem.to_json_dict() for problem in ordered]


def cause_of(entry: Record) -> tuple[str, str, str] | None:
    """Kind, cause and action of a problem; ``None``: the entry is none."""
    if entry.message is None:
        return "unreadable", entry.error.code if entry.error else "unreadable", "log"
    data = entry.message.data
    match data:
        case Rejected():
            return "rejected", data.error.code, data.intent
        case RelayFailed() | PeerStranded():
            return "failed", data.error.code, data.action
        case WorkerDied() | ServerLost():
            return "died", data.action, data.action
        case TransportClosed():
            return "transport", data.reason, data.action
    return None
