"""Log entries for participants, who may not read the log themselves (``QueryEntries``).

Every agent can answer, whoever has the peer, or if nobody has it any more: so one of all agents does.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing

import orjson
import structlog
from pydantic import ValidationError

from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.grants import Grants
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.queries import LogEntries, LogEntry, QueryEntries
from mafalda.contract.reading import read_message
from mafalda.errors import LogTruncated, MalformedMessage
from mafalda.telemetry.metrics import count_unreadable
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.rate_limits import QueryRates
from mafalda.workers.log.publisher import Publisher

log = structlog.get_logger("mafalda.workers")

#: A page ends before the entry with which it would exceed this, unless it is empty.
PAGE_BYTES = 128 * 1024
_GROUP = "mafalda-entries"


class EntriesServer:
    """Answers ``QueryEntries`` of any peer, in turn with the other agents.

    Args:
        bus: Whose log is read.
        publisher: Composes replies.
        config: How many queries a peer may send to this agent.
        page_bytes: The size of a page, in bytes of the entries' JSON.
    """

    def __init__(self, bus: Bus, publisher: Publisher, config: AgentConfig, page_bytes: int = PAGE_BYTES) -> None:
        self._bus = bus
        self._limits = config.peer_limits
        self._rates = QueryRates(config.limits_burst_s, bus.clock.time)
        self._publisher = publisher
        self._page_bytes = page_bytes

    def serve(self) -> AbstractAsyncContextManager[None]:
        """Answer as long as the block runs."""
        pattern = f"mafalda.room.*.peer.*.query.{QueryEntries.action}"
        return self._bus.serve(pattern, handler=self.reply, group=_GROUP)

    async def reply(self, delivery: Delivery) -> Message:
        """Answer one query.

        Raises:
            LogTruncated: The log's retention has discarded entries that were asked for.
            RateLimited: The peer sends too many.
            BusUnavailable: The log, or what the peer is granted, cannot be read now.
        """
        address, message = read_message(delivery.subject, delivery.data)
        query = message.data
        if not isinstance(query, QueryEntries) or address.room is None or address.peer is None:
            raise MalformedMessage("unknown query", action=query.action)
        self._rates.take((address.room, address.peer), self._limits.queries_per_s)
        grants = await self._bus.grants(address.room, address.peer)
        if grants is not None and grants.limits is not None:
            self._rates.take((address.room, address.peer, "token"), grants.limits.queries_per_s)
        page = await self._page(_visible(address.room, address.peer, grants), query.after)
        return self._publisher.reply(page, delivery.reply or delivery.subject, message)

    async def _page(self, patterns: list[str], after: int) -> LogEntries:
        usage = await self._bus.log_usage()
        if after < usage.first_seq - 1:
            raise LogTruncated("entries were discarded", after_seq=after, first_seq=usage.first_seq)
        page: list[LogEntry] = []
        size_bytes = 0
        async with aclosing(self._bus.read(*patterns, after_seq=after, up_to_seq=usage.last_seq)) as entries:
            async for entry in entries:
                size_bytes += len(entry.data)
                if page and size_bytes > self._page_bytes:
                    return LogEntries(seq=page[-1].seq, entries=page, more=True)
                try:
                    page.append(LogEntry(seq=entry.seq, subject=entry.subject, message=orjson.loads(entry.data)))
                except (orjson.JSONDecodeError, ValidationError) as error:  # no reader of the log could read it
                    count_unreadable("agent", MalformedMessage.code)
                    log.warning(
                        "unreadable", action="entries_unreadable", stream_seq=entry.seq, reason=type(error).__name__
                    )
        return LogEntries(seq=max(after, usage.last_seq), entries=page)


def _visible(room: str, peer: str, grants: Grants | None) -> list[str]:
    """The subjects whose entries the peer may see."""
    patterns = [subjects.result(room, peer, "*"), subjects.peer_event(room, peer, "*")]
    if grants is None or grants.roster:
        patterns.append(subjects.room_event(room, "*"))
    return patterns
