"""The events of rooms, in log order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from mafalda.bus.protocol import Delivery, Follower
from mafalda.contract.ids import check_id
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import ROOM_EVENTS
from mafalda.contract.reading import read_message
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

    def patterns(self) -> tuple[str, ...]:
        """The log subjects.

        Raises:
            IllegalId: The room's id is none.
            UnknownType: There is no such event.
        """
        room = "*" if self.room is None else check_id("room", self.room)
        known = {event.action for event in ROOM_EVENTS}
        if unknown := sorted(set(self.events) - known):
            raise UnknownType("rooms have no such event", event=unknown[0], known=", ".join(sorted(known)))
        return tuple(f"mafalda.room.{room}.event.{event}" for event in self.events or ("*",))


async def follow_events(follower: Follower) -> AsyncIterator[RoomEvent]:
    """The events that a follower yields. What is no event of Mafalda is logged and left out.

    Raises:
        LogTruncated: The log has discarded entries that were not yielded yet.
    """
    async for delivery in follower:
        if event := read_event(delivery):
            yield event


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
