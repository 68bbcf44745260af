"""Decide for a consume whose producer is on another worker: open a relay, unless there is one. Pure.

The agent answers the consume; an allocator only makes sure that the producer reaches the consumer's worker.
"""

from __future__ import annotations

from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.placement import relays
from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands
from mafalda.contract.messages.commands import Explanation
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import UNPLACED, ProducerState


def consume(view: View, intent: OpenIntent, producer_id: str, *, data: bool) -> Decision:
    """Decide whether a consume needs a relay, and from where."""
    room, peer = view.state.rooms.get(intent.peer[0]), view.peer(intent.peer)
    producer = room.producers.get(producer_id) if room else None
    if room is None or peer is None or peer.status == UNPLACED or producer is None or producer.data != data:
        return Decision("for-the-agent")
    target = peer.place
    if producer.place == target:
        return Decision("there-already")
    if (producer_id, target) in room.relays:
        # The relay may be closing for lack of consumers at this moment: then it has to be opened again.
        return Decision("there-already", wait_for=producer_id)
    planned = relays.plan(
        producer,
        {relay.target: relay for relay in room.relays_of(producer_id)},
        target,
        {name: server.region for name, server in view.fleet.servers.items()},
        max_fan_out=view.config.max_fan_out,
        explained=view.config.explained_candidates,
    )
    if planned.source is None or planned.explanation is None:
        return Decision("a-source-is-opening", wait_for=producer_id)
    return _open_relay(view, intent, producer, planned.source, target, planned.explanation)


def _open_relay(
    view: View, intent: OpenIntent, producer: ProducerState, source: Place, target: Place, explanation: Explanation
) -> Decision:
    room_id = intent.peer[0]
    command_seq = view.rooms.get(room_id).command_seq
    command = commands.OpenRelay(
        room=room_id,
        producer=producer.producer,
        data=producer.data,
        source=source,
        target=target,
        generation=producer.generation,
        explanation=explanation,
    )
    cost = view.config.micro(view.config.costs.relay)
    parts = (room_id, producer.producer, producer.generation, target.server, target.worker, command_seq)
    append = Append(
        derived_id("open-relay", *parts, intent.id or ""),
        subjects.command(room_id, target.server, command.action),
        command,
        room_id,
        command_seq,
        correlation=intent.correlation,
        causation=intent.id,
        holds=((source, cost), (target, cost)),
    )
    return Decision("relay-opened", commands=(append,))
