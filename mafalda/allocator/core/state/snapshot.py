"""An allocator's view as a snapshot, and a view out of one. Pure.

A snapshot has what the log says and what allocators keep of it. Loads and reservations are not in it: the next load
reports bring the ones, and the others last for seconds.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from mafalda.allocator.core.state.open_intents import OpenIntent
from mafalda.allocator.core.state.unplaced import UnplacedPeer
from mafalda.allocator.core.state.view import View
from mafalda.contract.messages.envelope import decode, encode
from mafalda.contract.subjects import Address
from mafalda.projection.codec import add_room, add_server, room_to_json, server_to_json
from mafalda.projection.state import UNPLACED, RoomState

Json = dict[str, Any]

#: With more open intents than this it is not the time for a snapshot: they are copied into it.
MAX_OPEN_INTENTS = 5_000


class RoomBytes:
    """The JSON of each active room. Only the rooms that changed are written again.

    Args:
        view: Has the rooms.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._raw: dict[str, bytes] = {}
        view.changed_rooms |= {*view.rooms, *view.state.rooms}

    @property
    def pending(self) -> int:
        """How many rooms have changed since their JSON was written."""
        return len(self._view.changed_rooms)

    def update(self, limit: int | None = None) -> None:
        """Write the JSON of changed rooms, at most ``limit`` of them."""
        changed = self._view.changed_rooms
        for _ in range(len(changed) if limit is None else min(limit, len(changed))):
            room = changed.pop()
            if raw := _room_bytes(self._view, room):
                self._raw[room] = raw
            else:
                self._raw.pop(room, None)

    def take(self) -> Mapping[str, bytes]:
        """The JSON of all active rooms as of now."""
        self.update()
        return dict(self._raw)


def _room_bytes(view: View, room_id: str) -> bytes | None:
    placements = view.rooms.active(room_id)
    state = view.state.rooms.get(room_id)
    if placements is None and state is None:
        return None
    peers = state.peers if state else {}
    found = room_to_json(state or RoomState(room_id))
    if placements:
        found |= {"commandSeq": placements.command_seq, "left": placements.left, "floor": placements.floor}
    found["joining"] = {peer: seq for peer in peers if (seq := view.joining.get((room_id, peer)))}
    found["correlations"] = {peer: view.correlations.get((room_id, peer)) for peer in peers}
    return orjson.dumps(found)


def capture_fleet(view: View) -> Json:
    """What concerns no single room, and what is to be decided."""
    return {
        "servers": [server_to_json(server) for server in view.state.servers.values()],
        "idleRooms": view.rooms.idle_rooms(),
        "openIntents": [
            [
                it.seq,
                it.address.action,
                *it.peer,
                base64.b64encode(it.raw).decode(),
                it.id,
                it.standing,
                it.reply_to,
            ]
            for it in view.open_intents
        ],
        "openItems": {str(it.seq): sorted(it.items) for it in view.open_intents if it.items},
        "unplaced": [
            [it.room, it.peer, it.seq, it.cause, it.unschedulable, encode(it.event).decode() if it.event else None]
            for it in view.unplaced
        ],
    }


def restore(view: View, seq: int, fleet: Json, rooms: list[Json], now: float) -> None:
    """Fill a new view from a snapshot; the log is folded from the next entry on.

    Args:
        view: Changed in place; nothing was folded into it.
        seq: The log entry as of which the snapshot is.
        fleet: As ``capture_fleet`` wrote it.
        rooms: As ``RoomBytes`` wrote them.
        now: Seconds, monotonic.
    """
    view.seq = view.state.seq = seq
    for found in fleet["servers"]:
        server = add_server(view.state, found)
        list(view.fleet.sync(server, now, watched=False))
        view.drains.set_draining(server.server, server.status == "draining", None)
    for room, (command_seq, floor) in fleet["idleRooms"].items():
        view.rooms.add_idle(room, command_seq, floor)
    for found in rooms:
        _restore_room(view, found)
    for room, peer, since_seq, cause, unschedulable, event in fleet["unplaced"]:
        message = decode(event.encode()) if event else None
        view.unplaced.add(UnplacedPeer(room, peer, since_seq, now, cause, message, unschedulable))
    for intent_seq, action, room, peer, raw, id, standing, reply_to in fleet["openIntents"]:
        address = Address("intent", action, room, peer)
        intent = OpenIntent(intent_seq, address, base64.b64decode(raw), id, now, standing, now, reply_to=reply_to)
        intent.items = set(fleet.get("openItems", {}).get(str(intent_seq), ()))
        intent.lost_s = now
        view.open_intents.add(intent)


def _restore_room(view: View, found: Json) -> None:
    room_id = found["room"]
    placements = view.rooms.ensure(room_id)
    placements.command_seq = found.get("commandSeq", 0)
    placements.left, placements.floor = dict(found.get("left", {})), found.get("floor", 0)
    if not found["peers"]:
        return
    room = add_room(view.state, found)
    for peer in room.peers.values():
        if correlation := found["correlations"].get(peer.peer):
            view.correlations[room_id, peer.peer] = correlation
        if join_seq := found.get("joining", {}).get(peer.peer):
            view.joining[room_id, peer.peer] = join_seq
        if peer.status != UNPLACED and (worker := view.fleet.at(peer.place)):
            placements.attach(worker.key)
            view.fleet.touch(worker)
