"""Explain why something is where it is, by the log entries that mention an id and the reasons in their decisions.

An id may be that of a message, a correlation, a room, a peer, a server, a worker, a producer, a consumer or a
transport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from mafalda.contract.messages.commands import Explanation, OpenRelay, OpenRelays, PlacePeer
from mafalda.contract.messages.results import Rejected
from mafalda.errors import NotFound
from mafalda.monitor.records import Record, unbatched

#: The commands that have reasons.
Decision = PlacePeer | OpenRelay | OpenRelays


def relayed_producers(command: object) -> tuple[str, ...]:
    """The producers that a command relays; none if it is another."""
    match command:
        case OpenRelay():
            return (command.producer,)
        case OpenRelays():
            return tuple(relay.producer for relay in command.relays)
    return ()


@dataclass(frozen=True, slots=True)
class History:
    """The log entries that mention an id, in order."""

    id: str
    entries: list[Record]

    @property
    def decisions(self) -> list[Record]:
        """The placement commands among the entries."""
        return [entry for entry in self.entries if entry.message and isinstance(entry.message.data, Decision)]

    @property
    def refusals(self) -> list[Record]:
        """The rejections among the entries."""
        return [entry for entry in self.entries if entry.message and isinstance(entry.message.data, Rejected)]


async def explain(entries: AsyncIterator[Record], wanted: str) -> History:
    """Collect the log entries that mention an id.

    Raises:
        NotFound: No entry does.
    """
    found: list[Record] = []
    async for entry in entries:
        is_batch = entry.message is not None and wanted in (entry.message.id, entry.message.causationid)
        parts = (entry,) if is_batch else unbatched(entry)
        found += (part for part in parts if _mentions(part, wanted))
    if not found:
        raise NotFound("the log does not mention this id", id=wanted)
    return History(wanted, found)


def reasons(explanation: Explanation) -> Iterator[str]:
    """An explanation as lines for people."""
    yield explanation.summary
    for candidate in explanation.candidates:
        load = f", load {candidate.load:.0%}" if candidate.load is not None else ""
        score = f", score {candidate.score:.3f}" if candidate.score is not None else ""
        yield f"{candidate.server}/{candidate.worker}: {candidate.outcome}{load}{score}"
    listed = Counter(candidate.outcome for candidate in explanation.candidates)
    for reason, count in sorted(explanation.passed_over.items()):
        if count > listed[reason]:
            yield f"{count - listed[reason]} more: {reason}"


def _mentions(entry: Record, wanted: str) -> bool:
    if wanted in entry.subject.split("."):
        return True
    message = entry.message
    if message is None:
        return False
    if wanted in (message.id, message.correlationid, message.causationid):
        return True
    if wanted in relayed_producers(message.data):
        return True
    return _holds(message.data.to_json_dict(), wanted, depth=2)


def _holds(value: Any, wanted: str, depth: int) -> bool:
    """Whether the id is one of the values. Explanations are not searched: they also name what was not chosen."""
    if isinstance(value, dict):
        return depth > 0 and any(
            _holds(inner, wanted, depth - 1) for key, inner in value.items() if key not in ("explanation", "appData")
        )
    if isinstance(value, list):
        return depth > 0 and any(_holds(inner, wanted, depth - 1) for inner in value)
    return bool(value == wanted)
