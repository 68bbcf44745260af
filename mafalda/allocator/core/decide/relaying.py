"""Decide for a request of relays for subscriptions: open all of them by one command. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mafalda.allocator.core.decide.decision import Append, Decision
from mafalda.allocator.core.placement import relays
from mafalda.allocator.core.state.relay_requests import RelayRequest
from mafalda.allocator.core.state.view import View
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import commands
from mafalda.contract.messages.payload import Place


def open_relays(view: View, request: RelayRequest) -> Decision:
    """Decide from where each producer of a request is relayed.

    One that is there already, or being relayed, needs nothing; one that is just being relayed to the target's server
    waits until it is there.
    """
    room = view.state.rooms.get(request.room)
    if room is None or view.state.worker(request.target) is None:
        return Decision("target-gone")
    regions = {name: server.region for name, server in view.fleet.servers.items()}
    orders: list[commands.RelayOrder] = []
    waiting: list[str] = []
    for producer_id in request.producers:
        producer = room.producers.get(producer_id)
        if producer is None or request.target == producer.place or (producer_id, request.target) in room.relays:
            continue
        planned = relays.plan(
            producer,
            {relay.target: relay for relay in room.relays_of(producer_id)},
            request.target,
            regions,
            max_fan_out=view.config.max_fan_out,
            explained=0,
        )
        if planned.source is None:
            waiting.append(producer_id)
            continue
        orders.append(
            commands.RelayOrder(
                producer=producer_id, data=producer.data, source=planned.source, generation=producer.generation
            )
        )
    if not orders:
        return Decision("a-source-is-opening" if waiting else "there-already", wait_for_all=tuple(waiting))
    command = _command(view, request, orders)
    return Decision("relays-opened", commands=(command,), wait_for_all=tuple(waiting))


def _command(view: View, request: RelayRequest, orders: list[commands.RelayOrder]) -> Append:
    command_seq = view.rooms.get(request.room).command_seq
    target = request.target
    command = commands.OpenRelays(
        room=request.room,
        target=target,
        relays=orders,
        explanation=commands.Explanation(policy=relays.POLICY, summary=_summary(order.source for order in orders)),
    )
    cost = view.config.micro(view.config.costs.relay)
    message = request.message
    return Append(
        derived_id("open-relays", request.room, target.server, target.worker, request.seq, command_seq),
        subjects.command(request.room, target.server, command.action),
        command,
        request.room,
        command_seq,
        correlation=message.correlation if message else None,
        causation=message.id if message else None,
        holds=tuple((place, cost) for order in orders for place in (order.source, target)),
    )


def _summary(sources: Iterable[Place]) -> str:
    counts = Counter(f"{source.server}/{source.worker}" for source in sources)
    return ", ".join(f"{count} from {source}" for source, count in sorted(counts.items()))
