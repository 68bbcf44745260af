"""The sessions of peers that have subscriptions."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound="OfRoom")


class OfRoom(Protocol):
    """A session of a peer of a room."""

    room: str


class Subscribers(Generic[S]):
    """The sessions with subscriptions, by room."""

    def __init__(self) -> None:
        self._by_room: dict[str, dict[S, None]] = {}

    def add(self, session: S) -> None:
        """Add a session; adding twice is adding once."""
        self._by_room.setdefault(session.room, {})[session] = None

    def remove(self, session: S) -> None:
        """Remove a session, if it is there."""
        if sessions := self._by_room.get(session.room):
            sessions.pop(session, None)
            if not sessions:
                del self._by_room[session.room]

    def of(self, room: str) -> list[S]:
        """The sessions of a room."""
        return list(self._by_room.get(room, ()))
