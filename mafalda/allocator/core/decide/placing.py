"""Place a peer on a worker: choose one by the configured policy, and make the ``PlacePeer`` command. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.fleet.candidates import WorkerView
from mafalda.allocator.core.fleet.newcomers import kind_of
from mafalda.allocator.core.fleet.obstacles import NO_REPORT_YET, SERVER_SILENT
from mafalda.allocator.core.placement import scores
from mafalda.allocator.core.placement.policy import Rng, choose
from mafalda.allocator.core.placement.trace import Choice, PlacementRequest
from mafalda.allocator.core.state.open_intents import Peer
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands
from mafalda.contract.messages.payload import AppData
from mafalda.errors import NoCapacity
from mafalda.projection.state import UNPLACED, PeerState


@dataclass(frozen=True, slots=True)
class PeerToPlace:
    """What a ``PlacePeer`` command says, but for the place.

    ``beside`` is a peer of the room on whose worker this one is placed if possible, ``server`` the server where it is.
    """

    who: Peer
    cause: commands.PlacementCause
    join: str
    app_data: AppData
    region: str | None
    correlation: str | None
    causation: str | None
    one_transport: bool = False
    handover: bool = False
    join_seq: int | None = None
    tenant: str | None = None
    beside: str | None = None
    server: str | None = None
    audience: bool = False
    lease_s: float | None = None


def choose_worker(view: View, wanted: PeerToPlace, limit: float, rng: Rng) -> Choice:
    """Choose a worker whose load stays at or below ``limit``, a fraction of a core."""
    room = view.rooms.get(wanted.who[0])
    newest = list(room.places)[-view.config.room_candidates :]
    in_room = [worker for key in newest if (worker := view.fleet.workers.get(key))]
    cost = _added_load(view, wanted)
    preferred, why = _preferred(view, wanted)
    request = PlacementRequest(in_room, wanted.region, cost, view.config.micro(limit), preferred, why)
    return choose(view.config.policy, view.fleet, request, rng)


def _preferred(view: View, wanted: PeerToPlace) -> tuple[list[WorkerView], str]:
    """The workers that are better than those that the policy prefers, and why."""
    other = view.peer((wanted.who[0], wanted.beside)) if wanted.beside else None
    if other is not None and other.status != UNPLACED:
        worker = view.fleet.workers.get((other.place.server, other.place.worker))
        return [worker] if worker else [], f"beside peer {other.peer}"
    server = view.fleet.servers.get(wanted.server or "")
    return list(server.workers.values()) if server else [], "on the same server as before"


def fits_when_settled(view: View, wanted: PeerToPlace, limit: float) -> bool:
    """Whether a worker could take the peer if it were not for the reservations, which end with the next reports."""
    most = (view.config.micro(limit) - _added_load(view, wanted)) // 1_000
    return view.fleet.order(scores.settled).count_up_to(scores.ALL, most) > 0


def _advance(view: View, wanted: PeerToPlace) -> int:
    kind = kind_of(one_transport=wanted.one_transport, audience=wanted.audience)
    return view.fleet.newcomers.expected(wanted.who[0], kind)


def _added_load(view: View, wanted: PeerToPlace) -> int:
    """By how much the peer raises a worker's load, in millionths of a core."""
    expected = round(_advance(view, wanted) * view.fleet.scale.value)
    costs = view.config.costs
    return max(expected, view.config.micro(costs.silent_audience if wanted.audience else costs.silent_peer))


def place_on(view: View, wanted: PeerToPlace, peer: PeerState | None, worker: WorkerView, choice: Choice) -> Decision:
    """Place a peer on the chosen worker.

    Args:
        view: What is known.
        wanted: What is to be placed.
        peer: The peer as it is now, if it is known.
        worker: The chosen worker.
        choice: Its explanation goes into the command.
    """
    room_id, peer_id = wanted.who
    room = view.rooms.get(room_id)
    generation = room.next_generation(peer_id, peer.generation if peer else None)
    member = peer if peer and peer.join == wanted.join else None
    command = commands.PlacePeer(
        room=room_id,
        peer=peer_id,
        server=worker.place.server,
        worker=worker.place.worker,
        generation=generation,
        cause=wanted.cause,
        join=wanted.join,
        join_seq=wanted.join_seq,
        app_data=wanted.app_data,
        region=wanted.region,
        one_transport=wanted.one_transport,
        tenant=wanted.tenant,
        audience=wanted.audience,
        lease_s=wanted.lease_s,
        handover=wanted.handover,
        subscriptions=list(member.subscriptions.values()) if member else [],
        subscriptions_seq=view.seq if member else None,
        explanation=choice.explanation,
    )
    append = Append(
        derived_id("place-peer", room_id, peer_id, generation, wanted.join),
        subjects.command(room_id, worker.place.server, command.action),
        command,
        room_id,
        room.command_seq,
        correlation=wanted.correlation,
        causation=wanted.causation,
        holds=((worker.place, _advance(view, wanted)),),
    )
    return Decision("placed", commands=(append,))


def waits_for_reports(view: View, now: float) -> bool:
    """Whether load reports that this allocator has not received yet may make a placement possible.

    They are the first ones since it started, or those that it missed while it could not read or append.
    """
    obstacles, liveness = view.fleet.obstacles, view.liveness
    may_be_first = obstacles[NO_REPORT_YET] > 0 and now < liveness.grace_until_s
    return may_be_first or (obstacles[SERVER_SILENT] > 0 and liveness.has_failed_access)


def no_capacity(choice: Choice, joins_waiting: int = 0) -> NoCapacity:
    """The error of a placement that found no worker, with the count of workers by reason, and of joins that wait."""
    waiting = {"joins-waiting": joins_waiting} if joins_waiting else {}
    return NoCapacity("no worker can take the peer now", **dict(choice.explanation.passed_over), **waiting)
