"""The identity of one placement of a peer, and the fields that name it in log lines and traces."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.ids import derived_id
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Place


@dataclass(frozen=True, slots=True)
class PeerPlacement:
    """One placement of one peer on one worker; a later one has a greater ``generation``.

    ``audience``: when it was placed, the peer only received, and the room is not told of it.
    """

    room: str
    peer: str
    generation: int
    place: Place
    audience: bool = False

    @classmethod
    def of(cls, command: PlacePeer) -> PeerPlacement:
        """The placement that a command orders."""
        place = Place(server=command.server, worker=command.worker)
        return cls(command.room, command.peer, command.generation, place, command.audience)

    def derived_id(self, cause: Message, *parts: str | int) -> str:
        """The id of a message that follows from ``cause``; the same each time, so that appending it again is harmless.

        Args:
            cause: The message that led to it.
            parts: Distinguish it from other messages with the same cause.
        """
        return derived_id(self.room, self.peer, self.generation, cause.id, *parts)

    @property
    def log_fields(self) -> dict[str, str]:
        """Fields of this placement's log lines."""
        return {
            "server_id": self.place.server,
            "worker_id": self.place.worker,
            "room_id": self.room,
            "peer_id": self.peer,
        }

    @property
    def trace_attributes(self) -> dict[str, str | int]:
        """Attributes of this placement's spans."""
        return {
            "mafalda.server": self.place.server,
            "mafalda.worker": self.place.worker,
            "mafalda.room": self.room,
            "mafalda.peer": self.peer,
            "mafalda.generation": self.generation,
        }
