"""The lives of an agent: each from its ``ServerStarted`` to its ``ServerStopped`` or ``ServerLost``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from mafalda.aio.tasks import background, open_tasks
from mafalda.bus.protocol import Bus
from mafalda.contract import subjects
from mafalda.errors import AlreadyExists
from mafalda.workers.agent.agent import Agent, IncarnationLost
from mafalda.workers.config import AgentConfig

log = structlog.get_logger("mafalda.workers")

Ready = asyncio.Event | Callable[[], object] | None


async def run_agent(bus: Bus, config: AgentConfig, *, ready: Ready = None, leave: asyncio.Event | None = None) -> None:
    """Run a server's agent until it is cancelled or has left; then append ``ServerStopped`` and close everything.

    An incarnation that was declared lost while it was out of reach closes all it has, and a new one begins.

    Args:
        bus: The bus; not closed here.
        config: The agent's configuration.
        ready: Set, or called, when the agent executes commands.
        leave: When it is set the agent drains for at most ``drain_grace_s`` and returns.

    Raises:
        WorkerStartFailed: No worker can be started.
        AlreadyExists: Another agent was started under the same server id; the later one keeps it.
    """
    leave = leave or asyncio.Event()
    while not leave.is_set():
        try:
            async with open_agent(bus, config) as agent:
                if isinstance(ready, asyncio.Event):
                    ready.set()
                elif ready is not None:
                    ready()
                async with background(_leave_when_set(agent, leave), "leave") as leaving:
                    await agent.follow(until=leaving)
        except IncarnationLost:
            log.error("incarnation lost", action="incarnation_lost", server_id=config.server)


async def _leave_when_set(agent: Agent, leave: asyncio.Event) -> None:
    await leave.wait()
    await agent.drain.leave(agent.config.drain_grace_s)


@asynccontextmanager
async def open_agent(bus: Bus, config: AgentConfig) -> AsyncIterator[Agent]:
    """One incarnation. It executes commands while its ``follow`` runs."""
    async with open_tasks() as tasks:
        agent = Agent(bus, config, tasks)
        try:
            await agent.start()
            async with (
                bus.serve(subjects.agent_request(config.server, "*"), handler=agent.requests.reply),
                agent.entries.serve(),
                bus.listen(subjects.agent_notice(config.server, "*")) as notices,
            ):
                tasks.spawn(agent.requests.read_notices(notices), "notices of other agents")
                yield agent
        except (IncarnationLost, AlreadyExists):
            raise
        except BaseException:
            await agent.announce_stop()
            raise
        else:
            await agent.announce_stop()
