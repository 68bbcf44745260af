"""What is appended when a peer's placement fails on its worker: the peer has left, and why."""

from __future__ import annotations

import structlog

from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import PeerLeft
from mafalda.contract.messages.results import Rejected
from mafalda.workers.core.instructions import EvictPeer
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.peers.session.placement import PeerPlacement
from mafalda.workers.peers.session.responses import PeerResponder

log = structlog.get_logger("mafalda.workers")


async def evict(publisher: Publisher, order: EvictPeer, *, audience: bool) -> None:
    """Append ``PeerLeft`` and, if the peer's join is unanswered, ``Rejected``. The peer may join again.

    Args:
        publisher: Appends to the log.
        order: Which peer, and why.
        audience: Whether it is of the room's audience now.
    """
    placement, cause = PeerPlacement.of(order.command), order.entry.message
    responder = PeerResponder(publisher, placement)
    responder.audience = audience
    log.error("peer evicted", action="peer_evicted", **placement.log_fields, reason=str(order.error))
    left = PeerLeft(peer=placement.peer, generation=placement.generation, reason="evicted")
    await responder.append_room_event(left, cause)
    if order.reject_join:
        await responder.append_result(Rejected(intent="join", error=ErrorInfo.of(order.error)), "join", cause)
