"""What a decision consists of: messages to append, and what becomes of its stimulus."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.results import Rejected


@dataclass(frozen=True, slots=True)
class Append:
    """One message to append.

    With ``room`` it is a command, appended only if the room's last command is still ``last_seq``. ``holds`` are the
    costs, in millionths of a core, that are reserved until the message is in the log.
    """

    id: str
    subject: str
    payload: Payload
    room: str | None = None
    last_seq: int = 0
    correlation: str | None = None
    causation: str | None = None
    holds: tuple[tuple[Place, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The messages to append and one word why.

    ``settled``: the stimulus needs nothing more from allocators. ``wait_for``: decide again when a relay of this
    producer opens or ends; ``wait_for_all``: the same for those producers of a relay request that are not decided yet.
    ``waits``: decide again when a load report may have made room. ``private``: sent to the inbox that the intent names,
    if no result can be published for it.
    """

    reason: str
    commands: tuple[Append, ...] = ()
    events: tuple[Append, ...] = ()
    results: tuple[Append, ...] = ()
    settled: bool = False
    wait_for: str | None = None
    waits: bool = False
    wait_for_all: tuple[str, ...] = ()
    private: Rejected | None = None

    @property
    def appends(self) -> tuple[Append, ...]:
        """All messages, in the order in which they are to be appended."""
        return self.commands + self.events + self.results
