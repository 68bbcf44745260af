"""Decide for an unplaced peer: place it again, or declare it unschedulable. Pure."""

from __future__ import annotations

from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.decide.placing import (
    PeerToPlace,
    choose_worker,
    no_capacity,
    place_on,
    waits_for_reports,
)
from mafalda.allocator.core.placement.policy import Rng
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View
from mafalda.contract.channels import membership_subject
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import events
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.projection.state import UNPLACED


def replace_peer(view: View, unplaced: UnplacedPeer, now: float, rng: Rng) -> Decision:
    """Place a peer again, below the watermark if possible, else up to the ceiling."""
    who = (unplaced.room, unplaced.peer)
    peer = view.peer(who)
    if peer is None or peer.status != UNPLACED:
        return Decision("has-a-place", settled=True)
    event_id = unplaced.event.id if unplaced.event else None
    wanted = PeerToPlace(
        who,
        unplaced.cause,
        peer.join,
        peer.app_data,
        peer.region,
        view.correlations.get(who),
        event_id,
        peer.one_transport,
        tenant=peer.tenant,
        join_seq=view.joining.get(who),
        audience=peer.audience,
        lease_s=peer.lease_s,
        # A drop-in's plain transport can have its port again there.
        server=peer.place.server if peer.one_transport else None,
    )
    choice = choose_worker(view, wanted, view.config.watermark, rng)
    if choice.worker is None and view.config.ceiling > view.config.watermark:
        choice = choose_worker(view, wanted, view.config.ceiling, rng)
    if choice.worker:
        return place_on(view, wanted, peer, choice.worker, choice)
    if unplaced.unschedulable:
        return Decision("still-unschedulable")
    if waits_for_reports(view, now):
        return Decision("waiting-for-reports")
    error = ErrorInfo.of(no_capacity(choice))
    stranded = events.PeerStranded(peer=unplaced.peer, generation=peer.generation, error=error)
    append = Append(
        derived_id("peer-stranded", unplaced.room, unplaced.peer, peer.generation, peer.join),
        membership_subject(unplaced.room, stranded, unplaced.peer, audience=peer.audience),
        stranded,
        correlation=wanted.correlation,
        causation=event_id,
    )
    return Decision("unschedulable", events=(append,))
