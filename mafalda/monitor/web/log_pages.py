"""Pages of the log, newest entries last, selected by room, peer, kind, action and text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from mafalda.contract.ids import check_id
from mafalda.contract.messages.events import LoadSampled
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record
from mafalda.monitor.sentences import sentence
from mafalda.monitor.web.problems import cause_of

Json = dict[str, Any]

#: Entries that the first look back covers, and the most that all looks of one page do.
FIRST_WINDOW = 1_000
MAX_LOOKED_AT = 200_000


class Reader(Protocol):
    """Reads the log, with what is archived of it."""

    def read(self, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None) -> AsyncIterator[Record]: ...


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries are shown. An empty field selects all.

    Attributes:
        kind: intent, result, event or command; several with commas.
        text: Part of the entry's sentence, in any case.
        problems: Only what is a problem.
        loads: Load samples too.
    """

    room: str = ""
    peer: str = ""
    server: str = ""
    kind: str = ""
    action: str = ""
    text: str = ""
    problems: bool = False
    loads: bool = True

    def patterns(self) -> tuple[str, ...]:
        """The narrowest subjects that cover the selection.

        Raises:
            BadInput: The room or the peer is no id.
        """
        if not self.room and not self.peer:
            return LOG_SUBJECTS
        room = check_id("room", self.room) if self.room else "*"
        if self.peer:
            peer = check_id("peer", self.peer)
            return tuple(f"mafalda.room.{room}.peer.{peer}.{kind}.*" for kind in ("intent", "result", "event"))
        about = (f"mafalda.room.{room}.peer.*.{kind}.*" for kind in ("intent", "result", "event"))
        return (*about, f"mafalda.room.{room}.event.*", f"mafalda.command.{room}.*.*")

    def holds(self, entry: Record) -> bool:
        """Whether an entry is selected."""
        address = entry.address
        for wanted, found in (
            (self.room, address and address.room),
            (self.peer, address and address.peer),
            (self.server, address and address.server),
            (self.action, address and address.action),
        ):
            if wanted and wanted != found:
                return False
        if self.kind and (address is None or address.kind not in self.kind.split(",")):
            return False
        if self.problems and cause_of(entry) is None:
            return False
        if not self.loads and address and address.action == LoadSampled.action:
            return False
        return not self.text or self.text.lower() in sentence(entry).lower()


async def log_page(reader: Reader, selected: LogFilter, *, up_to_seq: int, first_seq: int, limit: int) -> Json:
    """The last selected entries up to a sequence.

    Args:
        reader: Reads the log.
        selected: Which entries.
        up_to_seq: The last that may be among them.
        first_seq: The log's first.
        limit: At most so many.

    Returns:
        ``entries``, oldest first, and ``before``: from there the page before goes on; ``None``: there is nothing more.
    """
    found: list[Record] = []
    end, window, looked_at = up_to_seq, FIRST_WINDOW, 0
    patterns = selected.patterns()
    while end >= first_seq and len(found) < limit and looked_at < MAX_LOOKED_AT:
        begin = max(first_seq - 1, end - window)
        older = [
            entry async for entry in reader.read(*patterns, after_seq=begin, up_to_seq=end) if selected.holds(entry)
        ]
        found = older + found
        looked_at += end - begin
        end, window = begin, window * 4
    shown = found[-limit:]
    before = shown[0].seq - 1 if len(found) > limit else end
    return {"entries": [log_row(entry) for entry in shown], "before": before if before >= first_seq else None}


def log_row(entry: Record) -> Json:
    """An entry in one row."""
    address, message = entry.address, entry.message
    return {
        "seq": entry.seq,
        "time": message.time.isoformat() if message else None,
        "kind": address.kind if address else "?",
        "action": address.action if address else "?",
        "room": address.room if address else None,
        "peer": address.peer if address else None,
        "server": address.server if address else None,
        "text": sentence(entry),
        "problem": cause_of(entry) is not None,
    }
