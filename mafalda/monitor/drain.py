"""Requests of an operator to the agent of a server about its drain."""

from __future__ import annotations

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract.messages.queries import DrainServer, DrainStatus, QueryDrain
from mafalda.contract.subjects import agent_request
from mafalda.errors import DeadlineExceeded, NotFound
from mafalda.monitor.replay import current_state
from mafalda.session.requests import as_expected

SOURCE = "/mafalda/operator"


async def drain_request(
    bus: Bus, server: str, request: DrainServer | QueryDrain, *, timeout_s: float = 5.0
) -> DrainStatus:
    """Request a drain, its end, or its status of a server's agent.

    Raises:
        NotFound: No agent of such a server runs; with the servers that there are.
        DeadlineExceeded: The agent runs by the log and does not answer.
        MafaldaError: The error that the agent answers.
    """
    subject = agent_request(server, request.action)
    try:
        answer = await bus.request(subject, compose(request, subject=subject, source=SOURCE), timeout_s=timeout_s)
    except DeadlineExceeded:
        state = await current_state(bus)
        up = sorted(known.server for known in state.servers.values() if known.status in ("up", "draining"))
        if server in up:
            raise
        raise NotFound("no agent of this server runs", server=server, servers=", ".join(up) or "none") from None
    return as_expected(answer.data, DrainStatus)
