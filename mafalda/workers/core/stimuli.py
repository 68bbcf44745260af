"""Stimuli: what the agent's machine reacts to. Log entries, and what came of its instructions. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mafalda.errors import MafaldaError
from mafalda.workers.core.instructions import Entry, Instruction, RelayKey


@dataclass(frozen=True, slots=True)
class EntryRead:
    """The next entry of the log."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class RoomLoaded:
    """The entries of a room, and the server events since the machine's own position, up to a log sequence.

    ``snapshot`` is the room as of the log entry before the first of its entries, as ``projection.codec`` writes it;
    ``None``: there was no such room.
    """

    room: str
    past: list[Entry]
    up_to_seq: int
    snapshot: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RoomLoadFailed:
    """A room's past could not be read."""

    room: str
    error: MafaldaError


@dataclass(frozen=True, slots=True)
class PeerReady:
    """A peer's session takes intents. ``missed`` were appended before the session had subscribed to them."""

    room: str
    peer: str
    generation: int
    missed: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """The worker did not make what a peer's session needs."""

    room: str
    peer: str
    generation: int
    error: MafaldaError


@dataclass(frozen=True, slots=True)
class PeerTaskFailed:
    """A peer's session has ended by an unexpected exception."""

    room: str
    peer: str
    generation: int
    error: MafaldaError


@dataclass(frozen=True, slots=True)
class PeerEnded:
    """A peer has left."""

    room: str
    peer: str
    generation: int


@dataclass(frozen=True, slots=True)
class HandoverEnded:
    """Nothing is forwarded any more for a peer that was handed over."""

    room: str
    peer: str
    generation: int


@dataclass(frozen=True, slots=True)
class RelayTargetEnded:
    """The relay target that the command ``seq`` ordered was closed because nobody used it, or could not be opened."""

    key: RelayKey
    seq: int


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker of this server can be used."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker of this server has died; the log does not have it yet."""

    worker: str


@dataclass(frozen=True, slots=True)
class InstructionFailed:
    """An instruction could not even be begun: the shell raised an exception."""

    instruction: Instruction
    error: MafaldaError


Stimulus = (
    EntryRead
    | RoomLoaded
    | RoomLoadFailed
    | PeerReady
    | PeerRefused
    | PeerTaskFailed
    | PeerEnded
    | HandoverEnded
    | RelayTargetEnded
    | WorkerUp
    | WorkerGone
    | InstructionFailed
)
