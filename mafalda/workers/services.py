"""What the parts of one agent share. Built once by ``agent``.

What does not belong here: behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mafalda.bus.protocol import Bus
from mafalda.workers.beside import Beside
from mafalda.workers.config import AgentConfig
from mafalda.workers.following import Following
from mafalda.workers.machine import Machine
from mafalda.workers.machine.instructions import Instruction
from mafalda.workers.mirrors import Mirrors
from mafalda.workers.routers import Routers
from mafalda.workers.scores import Scores
from mafalda.workers.supervisor import Supervisor
from mafalda.workers.tasks import Tasks
from mafalda.workers.voice import Voice

if TYPE_CHECKING:
    from mafalda.workers.guests.house import Guests


@dataclass(slots=True, eq=False)
class Services:
    """One incarnation's parts."""

    bus: Bus
    config: AgentConfig
    tasks: Tasks
    voice: Voice
    machine: Machine
    following: Following
    supervisor: Supervisor
    routers: Routers
    mirrors: Mirrors
    beside: Beside
    scores: Scores
    guests: Guests
    execute: Callable[[Iterable[Instruction]], None]
    #: Producers that were opened here, by room and id: the fold learns of them a moment later.
    claimed: set[tuple[str, str]] = field(default_factory=set)
