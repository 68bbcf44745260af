"""Ends the sessions of peers whose clients are gone."""

from __future__ import annotations

import asyncio

from mafalda.workers.agent.sessions import PeerSessions
from mafalda.workers.config import AgentConfig

#: Between two sweeps, in seconds.
SWEEP_EVERY_S = 1.0


async def sweep_sessions(config: AgentConfig, sessions: PeerSessions) -> None:
    """Let each peer leave whose client has been gone for longer than the grace period. Runs until cancelled.

    Passthrough peers are not meant: their application answers heartbeats.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        for session in list(sessions.by_key.values()):
            is_gone = session.liveness.is_gone(
                loop.time(), ice_grace_s=config.ice_grace_s, idle_grace_s=config.idle_grace_s
            )
            if is_gone and not session.is_over and session.guest is None:
                session.liveness.note_activity(loop.time())
                session.leave("client gone")
