"""What follows from an intent, from a peer without a place, from a server that fell silent. Pure.

The same view, stimulus, time and dice give the same decision, byte for byte. Whatever is to be said
has an id that follows from what it is about, so that several allocators say it once.
What does not belong here: appending, retrying and logging (``runner``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mafalda.allocator.core.placement import relays
from mafalda.allocator.core.placement.filters import NO_REPORT_YET
from mafalda.allocator.core.placement.policy import POLICIES, Dice
from mafalda.allocator.core.placement.trace import Choice, Wanted
from mafalda.allocator.core.state.candidates import ServerView, WorkerView
from mafalda.allocator.core.state.entries import read_intent
from mafalda.allocator.core.state.open_intents import Homeless, OpenIntent, Peer
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.ids import check_id, derived_id
from mafalda.contract.messages import commands, events, intents, results
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.payload import AppData, Payload, Place
from mafalda.errors import AlreadyExists, BadInput, MafaldaError, NoCapacity, NotJoined, WorkerDied
from mafalda.projection.state import PeerState

Stimulus = OpenIntent | Homeless | ServerView


@dataclass(frozen=True, slots=True)
class Say:
    """One message to append. With ``room``: only if the room's last command is still ``last_seq``.

    ``holds`` are the costs, in millionths of a core, that count until the log has the message.
    """

    id: str
    subject: str
    payload: Payload
    room: str | None = None
    last_seq: int = 0
    correlation: str | None = None
    causation: str | None = None
    holds: tuple[tuple[Place, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to say, and one word why.

    ``settled``: the stimulus needs nothing more from allocators. ``wait_for``: decide again when a
    relay of this producer opens or ends.
    """

    reason: str
    commands: tuple[Say, ...] = ()
    events: tuple[Say, ...] = ()
    results: tuple[Say, ...] = ()
    settled: bool = False
    wait_for: str | None = None

    @property
    def says(self) -> tuple[Say, ...]:
        """All of it, in the order in which it is to be appended."""
        return self.commands + self.events + self.results


@dataclass(frozen=True, slots=True)
class _Placement:
    """Everything about a place that is wanted but the place."""

    who: Peer
    cause: commands.PlacementCause
    join: str
    app_data: AppData
    region: str | None
    correlation: str | None
    causation: str | None
    one_transport: bool = False


def decide(view: View, stimulus: Stimulus, now: float, dice: Dice) -> Decision:
    """Decide one thing.

    Args:
        view: What is known.
        stimulus: An open intent, a peer without a place, or a server that is held to be lost.
        now: Seconds, monotonic.
        dice: The only randomness.
    """
    match stimulus:
        case OpenIntent():
            return _intent(view, stimulus, now, dice)
        case Homeless():
            return _homeless(view, stimulus, now, dice)
        case ServerView():
            return _lost(stimulus)


# --- intents -------------------------------------------------------------------------------------


def _intent(view: View, intent: OpenIntent, now: float, dice: Dice) -> Decision:
    try:
        for what, value in (("room", intent.peer[0]), ("peer", intent.peer[1])):
            check_id(what, value)
        message = intent.message or read_intent(intent.address, intent.raw)
    except BadInput as error:
        return _reject(intent, error)
    intent.message = message
    match message.data:
        case intents.Join():
            return _join(view, intent, message.data, now, dice)
        case intents.Leave() if intent.standing == "homeless":
            return _leave(view, intent)
    if intent.standing == "absent":
        return _reject(intent, NotJoined("the peer has not joined", room=intent.peer[0], peer=intent.peer[1]))
    if intent.standing == "homeless":
        return _reject(intent, WorkerDied("the peer's place is gone; ask again after its next join result"))
    match message.data:
        case intents.Consume():
            return _consume(view, intent, message.data.producer, data=False)
        case intents.ConsumeData():
            return _consume(view, intent, message.data.data_producer, data=True)
    return Decision("for-the-agent", settled=True)


def _join(view: View, intent: OpenIntent, join: intents.Join, now: float, dice: Dice) -> Decision:
    peer = view.peer(intent.peer)
    if peer and peer.join == intent.id:
        return Decision("placed-already", settled=True)
    if peer and peer.status != "homeless":
        error = AlreadyExists("the peer has joined already", room=intent.peer[0], peer=peer.peer)
        return _reject(intent, error)
    wanted = _Placement(
        intent.peer,
        "join",
        intent.id or "",
        join.app_data,
        join.region,
        intent.correlation,
        causation=intent.id,
        one_transport=join.one_transport,
    )
    choice = _choose(view, wanted, view.config.watermark, dice)
    if choice.worker:
        return _place(view, wanted, peer, choice.worker, choice)
    if view.fleet.obstacles[NO_REPORT_YET] and now < view.grace_until_s:
        return Decision("waiting-for-reports")
    if now - intent.first_s < view.config.join_patience_s:
        return Decision("waiting-for-capacity")
    return _reject(intent, _no_capacity(choice))


def _leave(view: View, intent: OpenIntent) -> Decision:
    """A peer without a place leaves: no agent is there to say so."""
    peer = view.peer(intent.peer)
    if peer is None or peer.status != "homeless":
        return _reject(intent, WorkerDied("the peer has a new place; ask again after its next join result"))
    room = intent.peer[0]
    left = Say(
        derived_id("peer-left", room, peer.peer, peer.generation, peer.join),
        subjects.room_event(room, events.PeerLeft.action),
        events.PeerLeft(peer=peer.peer, generation=peer.generation),
        correlation=intent.correlation,
        causation=intent.id,
    )
    done = Say(
        derived_id("result", *intent.peer, intent.id or "", peer.generation),
        subjects.result(*intent.peer, intent.address.action),
        results.Done(intent=intent.address.action, generation=peer.generation),
        correlation=intent.correlation,
        causation=intent.id,
    )
    return Decision("left-without-a-place", events=(left,), results=(done,))


def _consume(view: View, intent: OpenIntent, producer_id: str, *, data: bool) -> Decision:
    """A consumer's agent answers; an allocator only sees to it that the producer comes to its worker."""
    room, peer = view.state.rooms.get(intent.peer[0]), view.peer(intent.peer)
    producer = room.producers.get(producer_id) if room else None
    if room is None or peer is None or peer.status == "homeless" or producer is None or producer.data != data:
        return Decision("for-the-agent")
    target = peer.place
    if producer.place == target:
        return Decision("there-already")
    if (producer_id, target) in room.relays:
        # The relay may be closing for want of consumers at this very moment: then it is to be opened again.
        return Decision("there-already", wait_for=producer_id)
    kept = view.room(room.room)
    regions = {name: server.region for name, server in view.fleet.servers.items()}
    planned = relays.plan(
        producer,
        kept.relays_of(room, producer_id),
        target,
        regions,
        max_fan_out=view.config.max_fan_out,
        explained=view.config.explained_candidates,
    )
    if planned.source is None or planned.explanation is None:
        return Decision("a-source-is-opening", wait_for=producer_id)
    command = commands.OpenRelay(
        room=room.room,
        producer=producer_id,
        data=data,
        source=planned.source,
        target=target,
        generation=producer.generation,
        explanation=planned.explanation,
    )
    cost = view.config.micro(view.config.costs.relay)
    say = Say(
        derived_id(
            "open-relay",
            room.room,
            producer_id,
            producer.generation,
            target.server,
            target.worker,
            kept.command_seq,
            intent.id or "",
        ),
        subjects.command(room.room, target.server, command.action),
        command,
        room.room,
        kept.command_seq,
        correlation=intent.correlation,
        causation=intent.id,
        holds=((planned.source, cost), (target, cost)),
    )
    return Decision("relay-opened", commands=(say,))


def _reject(intent: OpenIntent, error: MafaldaError) -> Decision:
    """Say no, unless the subject itself could not carry the answer."""
    room, peer = intent.peer
    if not all(_can_be_a_token(token) for token in (room, peer, intent.address.action)):
        return Decision("unanswerable", settled=True)
    say = Say(
        intent.rejection_id,
        subjects.result(room, peer, intent.address.action),
        results.Rejected(intent=intent.address.action, error=ErrorInfo.of(error)),
        correlation=intent.correlation,
        causation=intent.id,
    )
    return Decision(f"rejected-{error.code}", results=(say,))


def _can_be_a_token(token: str) -> bool:
    """Whether NATS lets a token be published: no wildcard, nothing that ends a subject."""
    return 0 < len(token) <= 256 and token.isprintable() and not any(char in "*> " for char in token)


# --- peers without a place -----------------------------------------------------------------------


def _homeless(view: View, homeless: Homeless, now: float, dice: Dice) -> Decision:
    who = (homeless.room, homeless.peer)
    peer = view.peer(who)
    if peer is None or peer.status != "homeless":
        return Decision("has-a-place", settled=True)
    event = homeless.event.id if homeless.event else None
    wanted = _Placement(who, homeless.cause, peer.join, peer.app_data, peer.region, view.correlations.get(who), event)
    choice = _choose(view, wanted, view.config.watermark, dice)
    if choice.worker is None and view.config.ceiling > view.config.watermark:
        choice = _choose(view, wanted, view.config.ceiling, dice)
    if choice.worker:
        return _place(view, wanted, peer, choice.worker, choice)
    if homeless.stranded or (view.fleet.obstacles[NO_REPORT_YET] and now < view.grace_until_s):
        return Decision("still-stranded" if homeless.stranded else "waiting-for-reports")
    say = Say(
        derived_id("peer-stranded", homeless.room, homeless.peer, peer.generation, peer.join),
        subjects.room_event(homeless.room, events.PeerStranded.action),
        events.PeerStranded(peer=homeless.peer, generation=peer.generation, error=ErrorInfo.of(_no_capacity(choice))),
        correlation=wanted.correlation,
        causation=event,
    )
    return Decision("stranded", events=(say,))


def _choose(view: View, wanted: _Placement, limit: float, dice: Dice) -> Choice:
    kept = view.room(wanted.who[0])
    newest = list(kept.places)[-view.config.room_candidates :]
    places = [worker for key in newest if (worker := view.fleet.workers.get(key))]
    advance = view.config.costs.advance(one_transport=wanted.one_transport)
    cost = view.config.micro(advance + view.config.costs.silent_peer)
    policy = POLICIES[view.config.policy]
    return policy(view.fleet, Wanted(places, wanted.region, cost, view.config.micro(limit)), dice)


def _place(view: View, wanted: _Placement, peer: PeerState | None, worker: WorkerView, choice: Choice) -> Decision:
    room, name = wanted.who
    kept = view.room(room)
    generation = kept.next_generation(name, peer.generation if peer else None)
    command = commands.PlacePeer(
        room=room,
        peer=name,
        server=worker.place.server,
        worker=worker.place.worker,
        generation=generation,
        cause=wanted.cause,
        join=wanted.join,
        app_data=wanted.app_data,
        region=wanted.region,
        one_transport=wanted.one_transport,
        explanation=choice.explanation,
    )
    say = Say(
        derived_id("place-peer", room, name, generation, wanted.join),
        subjects.command(room, worker.place.server, command.action),
        command,
        room,
        kept.command_seq,
        correlation=wanted.correlation,
        causation=wanted.causation,
        holds=((worker.place, view.config.micro(view.config.costs.advance(one_transport=wanted.one_transport))),),
    )
    return Decision("placed", commands=(say,))


def _no_capacity(choice: Choice) -> NoCapacity:
    return NoCapacity("no worker can take the peer now", **dict(choice.explanation.passed_over))


# --- servers -------------------------------------------------------------------------------------


def _lost(server: ServerView) -> Decision:
    say = Say(
        derived_id("server-lost", server.server, server.incarnation),
        subjects.server_event(server.server, events.ServerLost.action),
        events.ServerLost(server=server.server, incarnation=server.incarnation),
    )
    return Decision("server-lost", events=(say,))
