"""What this server really has, by its workers' own dumps.

An object that only the agent has is left out; one that only a worker has is listed under a peer of its own. Either way
a comparison with the log (``mafalda replay --verify``) fails, as it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.queries import PeerInventory, RelayInventory, ServerInventory
from mafalda.mediasoup import Router
from mafalda.workers.core import Machine
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.relays.target import RelayTarget
from mafalda.workers.relays.targets import RelayTargets
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import WorkerSupervisor

#: The peer under which objects without an owner are listed.
ORPHANS = "_orphans"


@dataclass(slots=True)
class _Seen:
    """What one router has, by the worker's own ids."""

    transports: set[str] = field(default_factory=set)
    producers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    data_producers: set[str] = field(default_factory=set)
    data_consumers: set[str] = field(default_factory=set)
    observed: set[tuple[str, str]] = field(default_factory=set)  # producer, observer


async def take_inventory(
    machine: Machine,
    supervisor: WorkerSupervisor,
    routers: Routers,
    relay_targets: RelayTargets,
    sessions: Mapping[tuple[str, str], PeerSession],
    handed_over: Iterable[PeerSession],
    pipes: Iterable[str],
) -> ServerInventory:
    """Ask every router of every worker.

    Args:
        machine: Has the state that was read from the log, and its sequence.
        supervisor: The workers.
        routers: Their routers.
        relay_targets: The relays into them.
        sessions: The peers' sessions.
        handed_over: The sessions of peers that have another place; what they have is nobody's, and no orphan.
        pipes: Ids of the transports that are ends of pipes.

    Raises:
        MafaldaError: A worker does not answer.
    """
    seq = machine.seq
    found = routers.all()
    dumps = await asyncio.gather(*(_see(router) for router in found.values()))
    seen = dict(zip(found, dumps, strict=True))
    peers = [_peer(session, seen) for session in sessions.values() if not session.is_over]
    for session in handed_over:
        _peer(session, seen)
    relays = _relays(relay_targets.by_key.values(), seen)
    pipe_ids = frozenset(pipes)  # they have no owner, and are no orphans
    orphans = [
        orphan for (room, worker), it in seen.items() if (orphan := _orphans(room, worker, it, pipe_ids)) is not None
    ]
    return ServerInventory(
        server=machine.server,
        incarnation=machine.incarnation,
        seq=seq,
        workers=sorted(supervisor.alive),
        peers=sorted([*peers, *orphans], key=lambda peer: (peer.room, peer.peer)),
        relays=sorted(relays, key=lambda relay: (relay.room, relay.producer, _text(relay.target))),
    )


async def _see(router: Router) -> _Seen:
    dump = await router.dump()
    seen = _Seen(transports=set(dump["transportIds"]))
    for producer, consumers in _pairs(dump["mapProducerIdConsumerIds"]):
        seen.producers.add(producer)
        seen.consumers.update(consumers)
    for producer, consumers in _pairs(dump["mapDataProducerIdDataConsumerIds"]):
        seen.data_producers.add(producer)
        seen.data_consumers.update(consumers)
    for producer, observers in _pairs(dump["mapProducerIdObserverIds"]):
        seen.observed.update((producer, observer) for observer in observers)
    return seen


def _pairs(value: Any) -> Iterable[tuple[str, list[str]]]:
    if isinstance(value, Mapping):
        return [(key, list(values)) for key, values in value.items()]
    return [(item["key"], list(item["values"])) for item in value]


def _relays(targets: Iterable[RelayTarget], seen: Mapping[tuple[str, str], _Seen]) -> list[RelayInventory]:
    """The open relay targets that their routers have; those are then no orphans."""
    found: list[RelayInventory] = []
    for target in targets:
        it = seen.get((target.key.room, target.key.worker))
        if target.is_open and _has(it, target.key.producer):
            order = target.order
            found.append(
                RelayInventory(
                    room=order.room,
                    producer=order.producer,
                    data=order.data,
                    source=order.source,
                    target=order.target,
                )
            )
        if it is not None:
            it.producers.discard(target.key.producer)
            it.data_producers.discard(target.key.producer)
    return found


def _has(seen: _Seen | None, producer: str) -> bool:
    return seen is not None and (producer in seen.producers or producer in seen.data_producers)


def _peer(session: PeerSession, seen: Mapping[tuple[str, str], _Seen]) -> PeerInventory:
    """What of a peer's objects its router has; those are then nobody else's."""
    it = seen.get((session.room, session.place.worker), _Seen())
    return PeerInventory(
        room=session.room,
        peer=session.peer,
        worker=session.place.worker,
        generation=session.generation,
        transports=_take(it.transports, {id: transport.id for id, transport in session.objects.transports.items()}),
        producers=_take(it.producers, {id: id for id in session.objects.producers}),
        consumers=sorted(
            [
                *_take(it.consumers, {id: kept.consumer.id for id, kept in session.objects.consumers.items()}),
                *_observed(session, it),
            ]
        ),
        data_producers=_take(it.data_producers, {id: id for id in session.objects.data_producers}),
        data_consumers=_take(
            it.data_consumers, {id: kept.consumer.id for id, kept in session.objects.consumers.items()}
        ),
    )


def _observed(session: PeerSession, it: _Seen) -> list[str]:
    """The consumers that stand for what the peer's observers observe."""
    return [id for id, of in session.objects.observed.items() if (of.producer, of.observer) in it.observed]


def _take(there: set[str], owned: Mapping[str, str]) -> list[str]:
    found = sorted(id for id, real in owned.items() if real in there)
    there.difference_update(owned.values())
    return found


def _orphans(room: str, worker: str, it: _Seen, pipes: frozenset[str]) -> PeerInventory | None:
    transports = it.transports - pipes
    if not transports and not it.producers and not it.data_producers:
        return None  # consumers that are left are the pipes' own, or on an orphan transport
    return PeerInventory(
        room=room,
        peer=ORPHANS,
        worker=worker,
        generation=0,
        transports=sorted(transports),
        producers=sorted(it.producers),
        consumers=[],
        data_producers=sorted(it.data_producers),
        data_consumers=[],
    )


def _text(place: Place) -> str:
    return f"{place.server}/{place.worker}"
