"""Decide for an open intent: place a join, open the relay of a consume, reject what cannot be done. Pure."""

from __future__ import annotations

from mafalda.allocator.core.decide.consuming import consume
from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.decide.placing import (
    PeerToPlace,
    choose_worker,
    fits_when_settled,
    no_capacity,
    place_on,
    waits_for_reports,
)
from mafalda.allocator.core.placement.policy import Rng
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.channels import membership_subject
from mafalda.contract.ids import check_id, derived_id, is_id
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.reading import check_message
from mafalda.errors import AlreadyExists, BadInput, MafaldaError, NoCapacity, NotJoined, TooManyPeers, WorkerExited
from mafalda.projection.state import UNPLACED

#: Reasons of decisions not to answer an intent, since its peer has had too many refusals.
FLOOD_BEGINS, FLOOD = "flood-begins", "flood"


def decide_intent(view: View, intent: OpenIntent, now: float, rng: Rng) -> Decision:
    """Decide for an intent. Its ``message`` is set if it can be decoded.

    A refusal that is one too many for its peer is not appended: nobody else bounds what a peer without a place sends.
    """
    decision = _decide(view, intent, now, rng)
    refused = any(isinstance(append.payload, results.Rejected) for append in decision.results)
    if not refused or (intent.standing == "placed" and intent.address.action != intents.Join.action):
        return decision
    match view.refusals.take(intent.peer, now):
        case "answer":
            return decision
        case "warn":
            return Decision(FLOOD_BEGINS, settled=True)
        case _:
            return Decision(FLOOD, settled=True)


def _decide(view: View, intent: OpenIntent, now: float, rng: Rng) -> Decision:
    try:
        for what, value in (("room", intent.peer[0]), ("peer", intent.peer[1])):
            check_id(what, value)
        message = intent.message or check_message(intent.address, intent.raw)
    except BadInput as error:
        return _reject(intent, error)
    intent.message = message
    if intent.refused:
        return _reject(intent, intent.refused)
    match message.data:
        case intents.Join():
            return _join(view, intent, message.data, now, rng)
        case intents.EndRoom():
            return _end_room(view, intent)
        case intents.Leave() if intent.standing == "unplaced":
            return _leave_unplaced(view, intent)
    if intent.standing != "placed":
        return _without_a_place(view, intent, now)
    match message.data:
        case intents.Consume():
            return consume(view, intent, message.data.producer, data=False)
        case intents.ConsumeData():
            return consume(view, intent, message.data.data_producer, data=True)
    return Decision("for-the-agent")  # it stays open until the agent answers it, or its place ends


def _without_a_place(view: View, intent: OpenIntent, now: float) -> Decision:
    """Decide for an intent that no agent has: it waits for its peer's join, or is rejected."""
    peer = view.peer(intent.peer)
    if intent.standing == "joining" and (peer or view.open_intents.has_join(intent.peer)):
        return Decision("waiting-for-join")
    if now - intent.lost_s < view.config.overdue_s:
        return Decision("for-the-agent")  # it may have taken it before the place ended
    if intent.standing == "lost" and intent.address.action == intents.Leave.action:
        return _leave_unplaced(view, intent)
    if peer and intent.standing != "absent":
        return _reject(intent, WorkerExited("the peer's place is gone; ask again after its next join result"))
    return _reject(intent, NotJoined("the peer has not joined", room=intent.peer[0], peer=intent.peer[1]))


def _join(view: View, intent: OpenIntent, join: intents.Join, now: float, rng: Rng) -> Decision:
    peer = view.peer(intent.peer)
    if peer and peer.join == intent.id:
        return Decision("placed-already", settled=True)
    if peer and peer.status != UNPLACED:
        error = AlreadyExists("the peer has joined already", room=intent.peer[0], peer=peer.peer)
        return _reject(intent, error)
    room, most = view.state.rooms.get(intent.peer[0]), view.config.room_peers
    if peer is None and most is not None and room is not None and len(room.peers) >= most:
        return _reject(
            intent, TooManyPeers("the room has as many peers as it may have", limit="room_peers", allowed=most)
        )
    if refusal := _refused_to_tenant(view, intent.peer[0], join.tenant, is_new=peer is None):
        return _reject(intent, refusal)
    wanted = PeerToPlace(
        intent.peer,
        "join",
        intent.id or "",
        join.app_data,
        join.region,
        intent.correlation,
        causation=intent.id,
        one_transport=join.one_transport,
        join_seq=intent.seq,
        tenant=join.tenant,
        beside=join.beside,
        audience=join.audience,
        lease_s=join.lease_s,
    )
    choice = choose_worker(view, wanted, view.config.watermark, rng)
    if choice.worker:
        return place_on(view, wanted, peer, choice.worker, choice)
    if waits_for_reports(view, now):
        return Decision("waiting-for-reports")
    settles = fits_when_settled(view, wanted, view.config.watermark)
    if now - intent.first_s < (view.config.join_timeout_s if settles else view.config.full_timeout_s):
        return Decision("waiting-for-capacity", waits=True)
    return _reject(intent, no_capacity(choice, joins_waiting=view.open_intents.waiting_count))


def _refused_to_tenant(view: View, room_id: str, tenant: str | None, *, is_new: bool) -> MafaldaError | None:
    """Why an application may not have a peer in a room: the room is another one's, or it has as many as it may."""
    room, most = view.state.rooms.get(room_id), view.config.tenant_peers
    if room is not None and room.peers and room.tenant != tenant:
        return AlreadyExists("the room is of another tenant", room=room_id)
    if tenant is None or most is None or not is_new:
        return None
    if len(view.state.peers_of.get(tenant, ())) >= most:
        return NoCapacity("the tenant has as many peers as it may have", tenant=tenant, limit=most)
    return None


def _end_room(view: View, intent: OpenIntent) -> Decision:
    """Let every peer leave that is in the room, or requested to be before: its agent, or an allocator, removes it."""
    room_id, sender = intent.peer
    room = view.state.rooms.get(room_id)
    found = {peer for peer in (room.peers if room else ()) if view.joining.get((room_id, peer), 0) < intent.seq}
    waiting = (it for it in view.open_intents.of_room(room_id) if it.address.action == intents.Join.action)
    found |= {it.peer[1] for it in waiting if it.seq < intent.seq and is_id(it.peer[1])}
    leaves = tuple(
        Append(
            derived_id("room-ended", room_id, peer, intent.id or ""),
            subjects.intent(room_id, peer, intents.Leave.action),
            intents.Leave(cause="room-ended"),
            correlation=intent.correlation,
            causation=intent.id,
        )
        for peer in sorted(found)
    )
    done = Append(
        derived_id("result", *intent.peer, intent.id or ""),
        subjects.result(room_id, sender, intent.address.action),
        results.Done(intent=intent.address.action, generation=0),
        correlation=intent.correlation,
        causation=intent.id,
    )
    return Decision("room-ended", events=leaves, results=(done,))


def _leave_unplaced(view: View, intent: OpenIntent) -> Decision:
    """An unplaced peer leaves: no agent has it, so the allocator appends the event and the result.

    If the event is in the log already and the result is not, only the result is appended.
    """
    peer = view.peer(intent.peer)
    if peer and peer.status != UNPLACED:
        return _reject(intent, WorkerExited("the peer has a new place; ask again after its next join result"))
    room_id, peer_id = intent.peer
    generation = peer.generation if peer else view.rooms.get(room_id).last_generation(peer_id)
    done = Append(
        derived_id("result", *intent.peer, intent.id or "", generation),
        subjects.result(*intent.peer, intent.address.action),
        results.Done(intent=intent.address.action, generation=generation),
        correlation=intent.correlation,
        causation=intent.id,
    )
    if peer is None:
        return Decision("has-left", results=(done,))
    leave = intent.message.data if intent.message else None
    cause = leave.cause if isinstance(leave, intents.Leave) else None
    event = events.PeerLeft(peer=peer_id, generation=generation, cause=cause)
    left = Append(
        derived_id("peer-left", room_id, peer_id, generation, peer.join),
        membership_subject(room_id, event, peer_id, audience=peer.audience),
        event,
        correlation=intent.correlation,
        causation=intent.id,
    )
    return Decision("left-without-a-place", events=(left,), results=(done,))


def _reject(intent: OpenIntent, error: MafaldaError) -> Decision:
    """Reject an intent: on its result subject, or in its private inbox if NATS allows no publish on that subject."""
    room, peer = intent.peer
    rejected = results.Rejected(intent=intent.address.action, error=ErrorInfo.of(error))
    if not all(_can_be_a_token(token) for token in (room, peer, intent.address.action)):
        return Decision("unanswerable", settled=True, private=rejected)
    append = Append(
        intent.rejection_id,
        subjects.result(room, peer, intent.address.action),
        rejected,
        correlation=intent.correlation,
        causation=intent.id,
    )
    return Decision(f"rejected-{error.code}", results=(append,))


def _can_be_a_token(token: str) -> bool:
    """Whether NATS allows a token in a subject to publish on: no wildcard, no separator, nothing unprintable."""
    return 0 < len(token) <= 256 and token.isprintable() and not any(char in "*> " for char in token)
