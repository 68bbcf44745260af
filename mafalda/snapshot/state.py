"""The projected state out of a snapshot."""

from __future__ import annotations

from mafalda.projection.codec import add_room, add_server
from mafalda.projection.state import State
from mafalda.snapshot.format import Snapshot


def state_of(snapshot: Snapshot | None) -> State:
    """The state as of a snapshot; without one, that before the log's first entry."""
    if snapshot is None:
        return State()
    state = State(seq=snapshot.seq)
    for server in snapshot.fleet["servers"]:
        add_server(state, server)
    for room in snapshot.rooms:
        if room["peers"]:
            add_room(state, room)
    return state
