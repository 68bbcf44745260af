"""What the parts of one agent share. Built once by ``agent``.

What does not belong here: behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mafalda.aio.tasks import TaskScope
from mafalda.bus.protocol import Bus
from mafalda.workers.config import AgentConfig
from mafalda.workers.core import Machine
from mafalda.workers.core.instructions import Instruction
from mafalda.workers.log.publisher import Voice
from mafalda.workers.log.reader import Following
from mafalda.workers.relays.scores import Scores
from mafalda.workers.relays.sideband import Beside
from mafalda.workers.relays.targets import Mirrors
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import Supervisor


@dataclass(slots=True, eq=False)
class Services:
    """One incarnation's parts."""

    bus: Bus
    config: AgentConfig
    tasks: TaskScope
    voice: Voice
    machine: Machine
    following: Following
    supervisor: Supervisor
    routers: Routers
    mirrors: Mirrors
    beside: Beside
    scores: Scores
    execute: Callable[[Iterable[Instruction]], None]
    #: Producers that were opened here, by room and id: the fold learns of them a moment later.
    claimed: set[tuple[str, str]] = field(default_factory=set)
