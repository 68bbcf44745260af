"""The passthrough peers of one agent, and what they share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mafalda.aio.tasks import TaskScope
from mafalda.bus.protocol import Bus
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.workers.config import AgentConfig
from mafalda.workers.passthrough.application import ApplicationHealth, ApplicationNotices
from mafalda.workers.passthrough.peer import PassthroughPeer
from mafalda.workers.passthrough.webrtc_servers import SharedWebRtcServers
from mafalda.workers.passthrough.worker_logs import WorkerLogs
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.sideband import RelaySideband
from mafalda.workers.supervision.supervisor import WorkerSupervisor


class PassthroughPeers:
    """The passthrough peers of one incarnation of an agent.

    Args:
        bus: Reaches applications.
        config: Of the agent.
        tasks: Where notices are sent and read.
        supervisor: Knows which workers live.
        sideband: Carries what a pipe between workers cannot.
    """

    def __init__(
        self, bus: Bus, config: AgentConfig, tasks: TaskScope, supervisor: WorkerSupervisor, sideband: RelaySideband
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._sideband = sideband
        self._webrtc_servers = SharedWebRtcServers(supervisor)
        self._notices = ApplicationNotices(bus, tasks, config.server)
        self._health = ApplicationHealth(bus, self._notices)
        self._peers: dict[PeerSession, PassthroughPeer] = {}
        self._logs = WorkerLogs(config.worker_log_level, self._sessions, self._notices)

    @property
    def webrtc_servers(self) -> SharedWebRtcServers:
        """The WebRtcServers of all applications."""
        return self._webrtc_servers

    def get(self, session: PeerSession) -> PassthroughPeer | None:
        """The session's passthrough peer, if its application has made a call of the worker's channel."""
        return self._peers.get(session)

    def get_or_create(self, session: PeerSession, inbox: str) -> PassthroughPeer:
        """The session's passthrough peer, whose notices go to ``inbox`` from now on."""
        peer = self._peers.get(session)
        if peer is None:
            peer = PassthroughPeer(session, self._bus, self._tasks, self._notices, self._webrtc_servers, self._sideband)
            self._peers[session] = peer
            session.objects.on_close(lambda: self._forget(session))
        peer.inbox = inbox
        return peer

    def of_application(self, session: PeerSession) -> list[PassthroughPeer]:
        """The passthrough peers of the session's application: those that have the same inbox."""
        own = self._peers.get(session)
        if own is None:
            return []
        return [peer for peer in self._peers.values() if peer is own or (own.inbox and peer.inbox == own.inbox)]

    async def follow_log(self, session: PeerSession, call: ChannelCall) -> dict[str, Any]:
        """Send the session's application log lines of its worker: how many, and about what, the call says.

        Raises:
            InvalidParameters: There are no such log settings.
        """
        peer = self._peers.get(session)
        if peer is not None and peer.inbox is not None:
            await self._logs.follow(session.live, peer.inbox, call.body or {})
        return {}

    async def check_applications(self) -> None:
        """Check whether the applications still run, for ever; their peers are timed out otherwise."""
        await self._health.run(self._sessions)

    def _sessions(self) -> Iterable[tuple[str, PeerSession]]:
        return [
            (peer.inbox, session)
            for session, peer in self._peers.items()
            if peer.inbox is not None and not session.is_over
        ]

    async def _forget(self, session: PeerSession) -> None:
        self._peers.pop(session, None)
        await self._logs.forget_gone()
