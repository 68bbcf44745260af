"""Times out the peers whose clients are gone."""

from __future__ import annotations

from collections.abc import Callable

from mafalda.aio.clock import PausableClock
from mafalda.workers.agent.sessions import PeerSessions
from mafalda.workers.config import AgentConfig
from mafalda.workers.peers.session.session import PeerSession

#: Between two sweeps, in seconds.
SWEEP_EVERY_S = 1.0


async def sweep_sessions(
    config: AgentConfig, sessions: PeerSessions, clock: PausableClock, *, has_application: Callable[[PeerSession], bool]
) -> None:
    """Time out each peer whose client has been gone for longer than the grace period. Runs until cancelled.

    Args:
        config: The grace periods.
        sessions: The sessions of this incarnation.
        clock: The bus's: a client that cannot be heard for want of a bus is not gone.
        has_application: Whether a session is that of a passthrough peer; its application is checked instead.
    """
    while True:
        await clock.sleep(SWEEP_EVERY_S)
        for session in list(sessions.by_key.values()):
            lease_s = session.command.lease_s
            idle_grace_s = min(lease_s or config.idle_grace_s, config.idle_grace_s)
            is_gone = session.liveness.is_gone(clock.time(), ice_grace_s=config.ice_grace_s, idle_grace_s=idle_grace_s)
            if is_gone and not session.is_over and not has_application(session):
                session.liveness.note_activity(clock.time())
                session.time_out("client gone" if lease_s is None else "lease ended")
