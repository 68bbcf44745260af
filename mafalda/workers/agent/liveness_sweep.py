"""Times out the peers whose clients are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mafalda.workers.agent.sessions import PeerSessions
from mafalda.workers.config import AgentConfig
from mafalda.workers.peers.session.session import PeerSession

#: Between two sweeps, in seconds.
SWEEP_EVERY_S = 1.0


async def sweep_sessions(
    config: AgentConfig, sessions: PeerSessions, *, has_application: Callable[[PeerSession], bool]
) -> None:
    """Time out each peer whose client has been gone for longer than the grace period. Runs until cancelled.

    Args:
        config: The grace periods.
        sessions: The sessions of this incarnation.
        has_application: Whether a session is that of a passthrough peer; its application is checked instead.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        for session in list(sessions.by_key.values()):
            is_gone = session.liveness.is_gone(
                loop.time(), ice_grace_s=config.ice_grace_s, idle_grace_s=config.idle_grace_s
            )
            if is_gone and not session.is_over and not has_application(session):
                session.liveness.note_activity(loop.time())
                session.time_out("client gone")
