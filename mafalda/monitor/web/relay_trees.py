"""The ways that a room's media takes from worker to worker, as trees. Pure.

Producers that take the same way (a camera and its microphone, or everybody on one worker) are one tree, so that what is
drawn depends on the number of workers and not on that of peers.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mafalda.contract.messages.payload import Place
from mafalda.monitor.web.summary import name_of
from mafalda.projection.state import UNPLACED, RelayState, RoomState

Json = dict[str, Any]

#: Trees that are listed; what is beyond is counted.
MAX_TREES = 50
#: Producers that are named in a tree.
MAX_NAMED = 12


def room_workers(room: RoomState) -> list[Json]:
    """The workers that serve a room, and how many peers, producers and consumers each has."""
    found: dict[Place, Json] = {}

    def of(place: Place) -> Json:
        if place not in found:
            found[place] = {**place.to_json_dict(), "peers": 0, "producers": 0, "consumers": 0}
        return found[place]

    for peer in room.peers.values():
        if peer.status != UNPLACED:
            of(peer.place)["peers"] += 1
            of(peer.place)["consumers"] += len(peer.consumers)
    for producer in room.producers.values():
        of(producer.place)["producers"] += 1
    for relay in room.relays.values():
        of(relay.source)
        of(relay.target)
    return [found[place] for place in sorted(found, key=lambda it: (it.server, it.worker))]


def relay_trees(room: RoomState) -> Json:
    """The trees of a room: those of most producers first, and how many more there are."""
    groups: dict[tuple[Place, frozenset[tuple[Place, Place, str]]], list[str]] = defaultdict(list)
    for key, producer in sorted(room.producers.items()):
        edges = frozenset((it.source, it.target, it.status) for it in room.relays_of(key))
        groups[producer.place, edges].append(key)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[0][1]), -len(item[1]), item[1]))
    return {
        "trees": [_tree(room, origin, producers) for (origin, _), producers in ordered[:MAX_TREES]],
        "more": max(0, len(ordered) - MAX_TREES),
    }


def _tree(room: RoomState, origin: Place, producers: list[str]) -> Json:
    consumers: dict[Place, int] = defaultdict(int)
    for producer in producers:
        for peer, _ in room.consumers_of.get(producer, ()):
            consumers[room.peers[peer].place] += 1
    relays = room.relays_of(producers[0])
    return {
        "id": f"{origin.worker} {producers[0]}",
        "producers": [_producer(room, producer) for producer in producers[:MAX_NAMED]],
        "count": len(producers),
        "relays": len(relays),
        "root": _node(origin, relays, consumers, "open", {origin}),
    }


def _node(place: Place, relays: list[RelayState], consumers: dict[Place, int], status: str, above: set[Place]) -> Json:
    """A worker and those that it relays to. ``above`` keeps a contradictory log from making a circle of it."""
    below = [relay for relay in relays if relay.source == place and relay.target not in above]
    return {
        **place.to_json_dict(),
        "status": status,
        "consumers": consumers.get(place, 0),
        "children": [_node(it.target, relays, consumers, it.status, above | {it.target}) for it in below],
    }


def _producer(room: RoomState, key: str) -> Json:
    producer = room.producers[key]
    owner = room.peers.get(producer.peer)
    return {
        "producer": key,
        "peer": producer.peer,
        "name": name_of(owner) if owner else producer.peer,
        "kind": producer.media_kind or "data",
        "paused": producer.paused,
    }
