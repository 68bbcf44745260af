"""Events that could not be delivered, kept in NATS beside the cursor until somebody sends them again."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from mafalda.bus.protocol import Bus
from mafalda.contract.ids import check_id
from mafalda.feed.room_events import RoomEvent

_PREFIX = "dead-letter."


class DeadLetter(BaseModel):
    """One of them. The event itself is in the log, or in the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int = Field(ge=1, description="The event's sequence in the log.")
    id: str = Field(description="The event's id.")
    room: str
    event: str = Field(description="Such as peer-joined.")
    reason: str = Field(description="Why the last attempt failed.")
    given_up_at: datetime

    @classmethod
    def of(cls, event: RoomEvent, reason: str) -> DeadLetter:
        """That of an event that could not be delivered."""
        return cls(
            seq=event.seq,
            id=event.message.id,
            room=event.room,
            event=event.message.data.action,
            reason=reason,
            given_up_at=datetime.now(tz=UTC),
        )


class DeadLetters:
    """Those of one cursor.

    Args:
        bus: Where they are kept.
        cursor: The cursor's name.
    """

    def __init__(self, bus: Bus, cursor: str) -> None:
        self._bus = bus
        self._prefix = f"{_PREFIX}{check_id('cursor', cursor)}."

    async def add(self, letter: DeadLetter) -> None:
        """Keep one.

        Raises:
            BusUnavailable: NATS does not answer.
        """
        await self._bus.snapshots.put(f"{self._prefix}{letter.seq}", letter.model_dump_json().encode())

    async def all(self) -> list[DeadLetter]:
        """All of them, in log order."""
        names = [name for name in await self._bus.snapshots.names() if name.startswith(self._prefix)]
        found = [await self._bus.snapshots.get(name) for name in names]
        letters = [DeadLetter.model_validate_json(it.data) for it in found if it]
        return sorted(letters, key=lambda it: it.seq)

    async def remove(self, letter: DeadLetter) -> None:
        """Forget one."""
        await self._bus.snapshots.delete(f"{self._prefix}{letter.seq}")
