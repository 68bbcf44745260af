"""The events of rooms, in log order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from mafalda.bus.log.patterns import PatternSet
from mafalda.bus.protocol import Bus, Delivery, Follower
from mafalda.contract.channels import audience_events
from mafalda.contract.ids import check_id
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import ROOM_EVENTS
from mafalda.contract.reading import read_message
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.errors import BadInput, UnknownType
from mafalda.telemetry.metrics import count_unreadable

log = structlog.get_logger("mafalda.feed")


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """One event.

    Attributes:
        seq: Its sequence in the log.
        room: The room's id.
        message: Decoded.
        data: As it is stored: a CloudEvent in JSON.
    """

    seq: int
    room: str
    message: Message
    data: bytes


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events.

    Attributes:
        room: Of one room only; ``None``: of all.
        events: Only these, such as ``peer-joined``; empty: all.
    """

    room: str | None = None
    events: tuple[str, ...] = ()

    def patterns(self) -> PatternSet:
        """The log subjects; those of the audience's membership are among them.

        Raises:
            IllegalId: The room's id is none.
            UnknownType: There is no such event.
        """
        room = "*" if self.room is None else check_id("room", self.room)
        known = {event.action for event in ROOM_EVENTS}
        if unknown := sorted(set(self.events) - known):
            raise UnknownType("rooms have no such event", event=unknown[0], known=", ".join(sorted(known)))
        of_room = (f"mafalda.room.{room}.event.{event}" for event in self.events or ("*",))
        return PatternSet((*of_room, *audience_events(room, *self.events)))


class EventFollower:
    """The events that are selected, in log order. Get one from ``follow_events``; iterate it from one task."""

    def __init__(self, follower: Follower, patterns: PatternSet) -> None:
        self._follower = follower
        self._patterns = patterns

    @property
    def seq(self) -> int:
        """The log sequence up to which all selected events have been yielded."""
        return self._follower.seq

    def __aiter__(self) -> AsyncIterator[RoomEvent]:
        return self

    async def __anext__(self) -> RoomEvent:
        """The next event. What is no event of Mafalda is logged and left out.

        Raises:
            LogTruncated: The log has discarded entries that were not yielded yet.
        """
        async for delivery in self._follower:
            if self._patterns.takes(delivery.subject) and (event := read_event(delivery)):
                return event
        raise StopAsyncIteration


@asynccontextmanager
async def follow_events(bus: Bus, selection: Selection, *, after_seq: int) -> AsyncIterator[EventFollower]:
    """Follow events from just after a log sequence.

    The whole log is followed: in a cluster a follower of some subjects may get an entry late, after a later one.

    Raises:
        IllegalId: As ``Selection.patterns``.
        UnknownType: As ``Selection.patterns``.
    """
    patterns = selection.patterns()
    async with bus.follow(*LOG_SUBJECTS, after_seq=after_seq) as follower:
        yield EventFollower(follower, patterns)


def read_event(delivery: Delivery) -> RoomEvent | None:
    """Decode a log entry; ``None``, with a line in the log, if it is no event of Mafalda."""
    try:
        address, message = read_message(delivery.subject, delivery.data)
    except BadInput as error:
        count_unreadable("feed", error.code)
        log.warning(
            "event not readable",
            action="event_unreadable",
            subject=delivery.subject,
            stream_seq=delivery.seq,
            reason=str(error),
        )
        return None
    return RoomEvent(delivery.seq, address.room or "", message, delivery.data)
