"""Decide for a peer on a draining server: move it while it is still served where it is. Pure."""

from __future__ import annotations

from mafalda.allocator.core.decide.decision import Decision
from mafalda.allocator.core.decide.placing import PeerToPlace, choose_worker, place_on
from mafalda.allocator.core.placement.policy import Rng
from mafalda.allocator.core.state.draining import DrainingPeer, may_be_moved
from mafalda.allocator.core.state.view import View
from mafalda.projection.state import UNPLACED


def move_peer(view: View, draining: DrainingPeer, rng: Rng) -> Decision:
    """Place a peer elsewhere, below the watermark if possible, else up to the ceiling; without a place it stays."""
    peer, server = view.peer(draining.who), view.state.servers.get(draining.server)
    if peer is None or server is None or peer.status == UNPLACED or peer.generation != draining.generation:
        return Decision("has-another-place", settled=True)
    if server.status != "draining" or not may_be_moved(server, peer):
        return Decision("stays")
    event = view.drains.event(draining.server)
    wanted = PeerToPlace(
        draining.who,
        "drain",
        peer.join,
        peer.app_data,
        peer.region,
        view.correlations.get(draining.who),
        event.id if event else None,
        peer.one_transport,
        tenant=peer.tenant,
        join_seq=view.joining.get(draining.who),
        audience=peer.audience,
        lease_s=peer.lease_s,
        handover=not peer.one_transport and peer.status == "joined",
    )
    choice = choose_worker(view, wanted, view.config.watermark, rng)
    if choice.worker is None and view.config.ceiling > view.config.watermark:
        choice = choose_worker(view, wanted, view.config.ceiling, rng)
    if choice.worker is None:
        return Decision("no-place-to-move-to")
    return place_on(view, wanted, peer, choice.worker, choice)
