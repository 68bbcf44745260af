"""The loop between the machine and the shell: stimuli in, instructions out, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from mafalda.workers.core.instructions import Instruction
from mafalda.workers.core.stimuli import InstructionFailed, Stimulus
from mafalda.workers.errors import as_mafalda_error

log = structlog.get_logger("mafalda.workers")


class Handles(Protocol):
    """A state machine."""

    def handle(self, stimulus: Stimulus) -> list[Instruction]: ...


class StimulusLoop:
    """Gives each reported stimulus to the machine, and begins the instructions that result, in their order.

    A stimulus that is reported while instructions are being begun is handled after them. An instruction that raises
    is reported to the machine as ``InstructionFailed``; the instructions after it are still begun.

    Args:
        machine: The state machine.
    """

    def __init__(self, machine: Handles) -> None:
        self._machine = machine
        self._stimuli: deque[Stimulus] = deque()
        self._begin: Callable[[Instruction], None] | None = None
        self._is_running = False

    def begin_with(self, begin: Callable[[Instruction], None]) -> None:
        """Set what begins an instruction. Stimuli that were reported before are handled now."""
        self._begin = begin
        self._run()

    def report(self, stimulus: Stimulus) -> None:
        """Handle a stimulus."""
        self._stimuli.append(stimulus)
        self._run()

    def _run(self) -> None:
        if self._is_running or self._begin is None:
            return
        self._is_running = True
        try:
            while self._stimuli:
                self._handle(self._stimuli.popleft(), self._begin)
        finally:
            self._is_running = False

    def _handle(self, stimulus: Stimulus, begin: Callable[[Instruction], None]) -> None:
        try:
            instructions = self._machine.handle(stimulus)
        except Exception:
            log.exception("stimulus not handled", action="internal_error", stimulus=type(stimulus).__name__)
            return
        for instruction in instructions:
            try:
                begin(instruction)
            except Exception as error:
                name = type(instruction).__name__
                log.exception("instruction failed", action="instruction_failed", instruction=name)
                self._stimuli.append(InstructionFailed(instruction, as_mafalda_error(error)))
