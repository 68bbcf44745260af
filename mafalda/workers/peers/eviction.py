"""What is appended when a peer's placement fails on its worker: the peer has left, and why."""

from __future__ import annotations

import structlog

from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import PeerLeft
from mafalda.contract.messages.results import Rejected
from mafalda.workers.core.instructions import EvictPeer
from mafalda.workers.log.publisher import Publisher

log = structlog.get_logger("mafalda.workers")


async def evict(publisher: Publisher, order: EvictPeer) -> None:
    """Append ``PeerLeft`` and, if the peer's join is unanswered, ``Rejected``. The peer may join again."""
    command, cause = order.command, order.entry.message
    room, peer, generation = command.room, command.peer, command.generation
    log.error(
        "peer evicted",
        action="peer_evicted",
        server_id=command.server,
        worker_id=command.worker,
        room_id=room,
        peer_id=peer,
        reason=str(order.error),
    )
    left = PeerLeft(peer=peer, generation=generation, reason="evicted")
    await publisher.append(
        left,
        subjects.room_event(room, left.action),
        cause=cause,
        id=derived_id(room, peer, generation, cause.id, left.action),
    )
    if order.reject_join:
        await publisher.append(
            Rejected(intent="join", error=ErrorInfo.of(order.error)),
            subjects.result(room, peer, "join"),
            cause=cause,
            id=derived_id(room, peer, generation, cause.id, "result"),
        )
