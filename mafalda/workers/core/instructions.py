"""Instructions: what the agent's machine orders its shell to do. Plain data.

The shell executes them in order. What comes of one is reported to the machine as a stimulus (``stimuli``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from mafalda.contract.batches import read_intents
from mafalda.contract.messages.commands import OpenRelay, PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import ClosedReason
from mafalda.contract.messages.intents import IntentBatch
from mafalda.contract.messages.payload import Place
from mafalda.contract.subjects import Address
from mafalda.errors import BadInput, MafaldaError


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log, decoded.

    ``reply`` is the inbox that an intent names for secrets, ``generation`` that of the place that it names, unchecked.
    An intent out of a batch is an entry of its own, with the message of the ``batch``, and the ``error`` if it cannot
    be read.
    """

    seq: int
    address: Address
    message: Message
    reply: str | None = None
    size_bytes: int = 0
    generation: str | None = None
    batch: Message | None = None
    error: BadInput | None = None

    def without(self, answered: Collection[str | None]) -> Entry | None:
        """The intent, or what of a batch has none of these ids; ``None`` if nothing is left."""
        batch = self.message.data
        if self.message.id in answered:
            return None
        if not isinstance(batch, IntentBatch) or not any(item.id in answered for item in batch.items):
            return self
        items = [item for item in batch.items if item.id not in answered]
        if not items:
            return None
        left = batch.model_copy(update={"items": items})
        return replace(self, message=self.message.model_copy(update={"data": left}))

    def unbatched(self) -> list[Entry]:
        """The intents of a batch, in order; the entry itself if it is none."""
        if not isinstance(self.message.data, IntentBatch):
            return [self]
        size_bytes = self.size_bytes // len(self.message.data.items)
        return [
            replace(
                self,
                address=self.address if error else self.address._replace(action=item.data.action),
                message=item,
                size_bytes=size_bytes,
                batch=self.message,
                error=error,
            )
            for item, error in read_intents(self.message)
        ]


@dataclass(frozen=True, slots=True, order=True)
class RelayKey:
    """One producer on one worker of this server that is not its origin."""

    room: str
    producer: str
    worker: str


@dataclass(frozen=True, slots=True)
class LoadRoom:
    """Subscribe to a room and read its past, after ``delay_s`` seconds. Ends in RoomLoaded or RoomLoadFailed."""

    room: str
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class IdleRoom:
    """Close what remains of a room that has no peer and no relay target here. It stays subscribed."""

    room: str


@dataclass(frozen=True, slots=True)
class ForgetRoom:
    """Unsubscribe from a room."""

    room: str


@dataclass(frozen=True, slots=True)
class AdoptPeer:
    """Start the session of a peer that was placed here. Ends in PeerReady, PeerRefused or PeerTaskFailed."""

    command: PlacePeer
    entry: Entry


@dataclass(frozen=True, slots=True)
class DropPeer:
    """Close everything of a peer whose placement here has ended. Nothing is appended."""

    room: str
    peer: str
    generation: int
    reason: ClosedReason


@dataclass(frozen=True, slots=True)
class HandOverPeer:
    """Take no more intents of a peer that has another place, and go on forwarding until its client has moved.

    Ends in HandoverEnded.
    """

    room: str
    peer: str
    generation: int


@dataclass(frozen=True, slots=True)
class CloseHandedOver:
    """Close what a peer that was handed over still has here: a producer that is open at its new place, or all of it."""

    room: str
    peer: str
    producer: str | None = None


@dataclass(frozen=True, slots=True)
class EvictPeer:
    """Append that a peer has left, since its placement failed here. ``reject_join``: its join is still unanswered."""

    command: PlacePeer
    entry: Entry
    error: MafaldaError
    reject_join: bool


@dataclass(frozen=True, slots=True)
class HandleIntent:
    """Do what a peer placed here has requested."""

    room: str
    peer: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class OpenRelayTarget:
    """Relay a producer from another worker to one of ours. Ends in RelayTargetEnded."""

    key: RelayKey
    command: OpenRelay
    entry: Entry


@dataclass(frozen=True, slots=True)
class RefuseRelay:
    """Append that an ordered relay cannot be opened."""

    command: OpenRelay
    entry: Entry
    error: MafaldaError


@dataclass(frozen=True, slots=True)
class ReconcileRelayTarget:
    """Pause or resume a relay target if its origin was paused or resumed."""

    key: RelayKey


@dataclass(frozen=True, slots=True)
class CloseRelayTarget:
    """Close a relay target whose origin, or the way to it, is gone."""

    key: RelayKey
    reason: ClosedReason


@dataclass(frozen=True, slots=True)
class CloseRelaySource:
    """Stop sending a producer of one of our workers to a target where the relay has ended."""

    room: str
    producer: str
    worker: str
    target: Place


@dataclass(frozen=True, slots=True)
class ClosePipeSources:
    """Close the source ends of pipes from or to a worker that is dead; a pipe does not notice that itself."""

    place: Place


@dataclass(frozen=True, slots=True)
class CheckRelayWaiters:
    """Reject consumes that wait for a relay of a producer which the room no longer has."""

    room: str


@dataclass(frozen=True, slots=True)
class CloseDuplicateProducer:
    """Close a producer of a peer here: another peer's producer with the same id is earlier in the log."""

    room: str
    peer: str
    producer: str


@dataclass(frozen=True, slots=True)
class ResetIncarnation:
    """End this incarnation and begin a new one: it was declared lost, and its peers are placed elsewhere."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """End the agent: another agent was started under the same server id."""

    incarnation: str


@dataclass(frozen=True, slots=True)
class CheckSubscriptions:
    """Let the subscriptions of the room's peers here decide about a producer that was opened."""

    room: str
    producer: str


PeerInstruction = (
    AdoptPeer
    | DropPeer
    | HandOverPeer
    | CloseHandedOver
    | EvictPeer
    | HandleIntent
    | CloseDuplicateProducer
    | CheckSubscriptions
)
RelayInstruction = (
    OpenRelayTarget
    | RefuseRelay
    | ReconcileRelayTarget
    | CloseRelayTarget
    | CloseRelaySource
    | ClosePipeSources
    | CheckRelayWaiters
)
Instruction = LoadRoom | IdleRoom | ForgetRoom | ResetIncarnation | Superseded | PeerInstruction | RelayInstruction
