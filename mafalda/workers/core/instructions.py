"""What the machine tells the agent's shell to do. Plain data; the shell decides nothing about rooms.

What does not belong here: when they are given (``machine``), how they are done (the shell's files).
"""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.messages.commands import OpenRelay, PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import ClosedReason
from mafalda.contract.messages.payload import Place
from mafalda.contract.subjects import Address
from mafalda.errors import MafaldaError


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log, decoded. ``reply`` is the inbox that an intent names for secrets."""

    seq: int
    address: Address
    message: Message
    reply: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class MirrorKey:
    """One producer on one worker of ours that is not its origin."""

    room: str
    producer: str
    worker: str


@dataclass(frozen=True, slots=True)
class LoadRoom:
    """Follow a room that was not ours until now, and read what happened in it before."""

    room: str


@dataclass(frozen=True, slots=True)
class RestRoom:
    """Nothing of the room is here now; it is followed still, so that it can come back without its past being read."""

    room: str


@dataclass(frozen=True, slots=True)
class ForgetRoom:
    """Follow a room that rests no more."""

    room: str


@dataclass(frozen=True, slots=True)
class AdoptPeer:
    """Give a peer its place here, then say so."""

    command: PlacePeer
    entry: Entry


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Close everything of a peer whose place here is over, without a word."""

    room: str
    peer: str
    generation: int
    reason: ClosedReason


@dataclass(frozen=True, slots=True)
class HandleIntent:
    """Do what a peer of ours wants."""

    room: str
    peer: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class OpenMirror:
    """Fetch a producer from another worker."""

    key: MirrorKey
    command: OpenRelay
    entry: Entry


@dataclass(frozen=True, slots=True)
class RefuseRelay:
    """Say that a relay that was ordered cannot be."""

    command: OpenRelay
    entry: Entry
    error: MafaldaError


@dataclass(frozen=True, slots=True)
class SettleMirror:
    """The origin may have been paused or resumed: make the mirror equal."""

    key: MirrorKey


@dataclass(frozen=True, slots=True)
class CloseMirror:
    """The origin, or the way to it, is gone."""

    key: MirrorKey
    reason: ClosedReason


@dataclass(frozen=True, slots=True)
class StopCarrying:
    """A relay that one of our workers feeds has ended at its target."""

    room: str
    producer: str
    worker: str
    target: Place


@dataclass(frozen=True, slots=True)
class PlaceGone:
    """A worker, here or elsewhere, is no more: pipes to it lead nowhere (and would never notice)."""

    place: Place


@dataclass(frozen=True, slots=True)
class CheckWaiting:
    """Producers have gone from the room: consumes that wait for them wait in vain."""

    room: str


@dataclass(frozen=True, slots=True)
class YieldProducer:
    """Somebody else opened a producer under the same id a moment earlier: ours has to go."""

    room: str
    peer: str
    producer: str


@dataclass(frozen=True, slots=True)
class StartOver:
    """Our incarnation was declared lost: everything is (being) placed elsewhere."""


@dataclass(frozen=True, slots=True)
class StandDown:
    """Another agent has been started under our server id, and the fleet knows only the later one."""

    incarnation: str


Instruction = (
    LoadRoom
    | RestRoom
    | ForgetRoom
    | AdoptPeer
    | DropPeer
    | HandleIntent
    | OpenMirror
    | RefuseRelay
    | SettleMirror
    | CloseMirror
    | StopCarrying
    | PlaceGone
    | CheckWaiting
    | YieldProducer
    | StartOver
    | StandDown
)
