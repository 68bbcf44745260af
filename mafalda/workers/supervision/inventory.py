"""What this server really has, asked of its workers and not of what we remember.

An object that only we remember is left out; one that only a worker knows is listed under a peer of its own, so
that a comparison with the log fails either way. What does not belong here: the comparison (``mafalda replay``).
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
from mafalda.workers.relays.targets import Mirrors
from mafalda.workers.supervision.routers import Routers
from mafalda.workers.supervision.supervisor import Supervisor

#: The peer under which what nobody owns is listed.
ORPHANS = "_orphans"


@dataclass(slots=True)
class _Seen:
    """What one router says that it has, by the workers' own ids."""

    transports: set[str] = field(default_factory=set)
    producers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    data_producers: set[str] = field(default_factory=set)
    data_consumers: set[str] = field(default_factory=set)
    observed: set[tuple[str, str]] = field(default_factory=set)  # producer, observer


async def take_inventory(
    machine: Machine,
    supervisor: Supervisor,
    routers: Routers,
    mirrors: Mirrors,
    actors: Mapping[tuple[str, str], PeerSession],
    pipes: Iterable[str],
) -> ServerInventory:
    """Ask every router of every worker.

    Args:
        machine: Knows up to where the log was acted on.
        supervisor: The workers.
        routers: Their routers.
        mirrors: The relays into them.
        actors: The peers.
        pipes: Ids of the transports that are ends of pipes.

    Raises:
        MafaldaError: A worker does not answer.
    """
    seq = machine.seq
    found = routers.all()
    dumps = await asyncio.gather(*(_see(router) for router in found.values()))
    seen = dict(zip(found, dumps, strict=True))
    left = {key: set(pipes) for key in seen}  # ends of pipes are nobody's, and no orphans
    peers = [_peer(actor, seen) for actor in actors.values() if not actor.is_over]
    relays = [
        RelayInventory(
            room=mirror.key.room,
            producer=mirror.key.producer,
            data=mirror.order.data,
            source=mirror.order.source,
            target=mirror.order.target,
        )
        for mirror in mirrors.by_key.values()
        if mirror.state == "open" and _has(seen.get((mirror.key.room, mirror.key.worker)), mirror.key.producer)
    ]
    for mirror in mirrors.by_key.values():
        if it := seen.get((mirror.key.room, mirror.key.worker)):
            it.producers.discard(mirror.key.producer)
            it.data_producers.discard(mirror.key.producer)
    orphans = [
        orphan
        for (room, worker), it in seen.items()
        if (orphan := _orphans(room, worker, it, left[room, worker])) is not None
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


def _has(seen: _Seen | None, producer: str) -> bool:
    return seen is not None and (producer in seen.producers or producer in seen.data_producers)


def _peer(actor: PeerSession, seen: Mapping[tuple[str, str], _Seen]) -> PeerInventory:
    """What of a peer's objects its router has; those are then nobody else's."""
    it = seen.get((actor.room, actor.place.worker), _Seen())
    return PeerInventory(
        room=actor.room,
        peer=actor.peer,
        worker=actor.place.worker,
        generation=actor.generation,
        transports=_take(it.transports, {id: transport.id for id, transport in actor.objects.transports.items()}),
        producers=_take(it.producers, {id: id for id in actor.objects.producers}),
        consumers=sorted(
            [
                *_take(it.consumers, {id: kept.consumer.id for id, kept in actor.objects.consumers.items()}),
                *_observed(actor, it),
            ]
        ),
        data_producers=_take(it.data_producers, {id: id for id in actor.objects.data_producers}),
        data_consumers=_take(it.data_consumers, {id: kept.consumer.id for id, kept in actor.objects.consumers.items()}),
    )


def _observed(actor: PeerSession, it: _Seen) -> list[str]:
    """The consumers that stand for what the peer's observers observe."""
    return [id for id, of in actor.objects.observed.items() if (of.producer, of.observer) in it.observed]


def _take(there: set[str], owned: Mapping[str, str]) -> list[str]:
    found = sorted(id for id, real in owned.items() if real in there)
    there.difference_update(owned.values())
    return found


def _orphans(room: str, worker: str, it: _Seen, pipes: set[str]) -> PeerInventory | None:
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
