"""A machine that reads a story as the agent's shell would feed it; without an event loop."""

from __future__ import annotations

from typing import TypeVar

from mafalda.contract.ids import derived_id
from mafalda.contract.messages.payload import Payload
from mafalda.contract.subjects import parse
from mafalda.testing.builders import message
from mafalda.testing.stories import Story
from mafalda.workers.core import Machine
from mafalda.workers.core.instructions import Entry, HandleIntent, Instruction, LoadRoom
from mafalda.workers.core.stimuli import EntryRead, PeerReady, RoomLoaded

I = TypeVar("I", bound=Instruction)  # noqa: E741


class MachineRun:
    """The agent of one server, reading a story.

    Args:
        story: The log; ``read`` reads what was added to it since the last time.
        server: The machine's server.
        workers: The server's living workers.
        loads_at_once: Whether a room is loaded as soon as the machine orders it; else ``load`` does it.
    """

    def __init__(self, story: Story, server: str, *workers: str, loads_at_once: bool = True) -> None:
        self.story = story
        self.machine = Machine(server, "i1", workers)
        self.instructions: list[Instruction] = []
        self._loads_at_once = loads_at_once
        self._read = 0

    def read(self, up_to: int | None = None) -> list[Instruction]:
        """The instructions for what was added to the story since the last time."""
        found: list[Instruction] = []
        end = len(self.story.entries) if up_to is None else up_to
        for seq, subject, payload in self.story.entries[self._read : end]:
            instructions = self.machine.handle(EntryRead(entry(seq, subject, payload)))
            found += instructions
            self.instructions += instructions
            for instruction in instructions:
                if isinstance(instruction, LoadRoom) and self._loads_at_once:
                    found += self.load(instruction.room, up_to=seq)
        self._read = max(self._read, end)
        return found

    def load(self, room: str, *, up_to: int | None = None) -> list[Instruction]:
        """Load a room's past, and the server events, up to a log sequence (default: all there is)."""
        end = len(self.story.entries) if up_to is None else up_to
        past = [
            it
            for seq, subject, payload in self.story.entries[:end]
            if (it := entry(seq, subject, payload)).address.kind in ("event", "command")
            and it.address.peer is None
            and (it.address.room == room or (it.address.room is None and seq > self.machine.seq))
        ]
        found = self.machine.handle(RoomLoaded(room, past, end))
        self.instructions += found
        return found

    def ready(self, peer: str, generation: int = 1, missed: list[Entry] | None = None) -> list[HandleIntent]:
        """Report a peer's session as ready; returns the intents to handle."""
        found = self.machine.handle(PeerReady(self.story.room_id, peer, generation, missed or []))
        return [it for it in found if isinstance(it, HandleIntent)]


def entry(seq: int, subject: str, payload: Payload, *, id: str = "") -> Entry:
    """An entry as the shell reads it."""
    address = parse(subject)
    assert address is not None
    return Entry(seq, address, message(payload, id=id or derived_id(seq, subject), subject=subject))


def only(kind: type[I], instructions: list[Instruction]) -> list[I]:
    """Those of one kind."""
    return [it for it in instructions if isinstance(it, kind)]
