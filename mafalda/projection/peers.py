"""How placements, joins and leaves change the state."""

from __future__ import annotations

from mafalda.contract.messages import commands, events
from mafalda.contract.messages.payload import Place
from mafalda.contract.subjects import Address
from mafalda.projection.lookup import current_peer, placed_peer
from mafalda.projection.removal import remove_objects
from mafalda.projection.state import UNPLACED, PeerState, RoomState, State


def place_peer(state: State, _: Address, command: commands.PlacePeer) -> None:
    """Give a peer its place; what it had at its former place is removed. An older generation changes nothing."""
    room = state.rooms.setdefault(command.room, RoomState(command.room))
    place = Place(server=command.server, worker=command.worker)
    former = room.peers.get(command.peer)
    if former and former.generation >= command.generation:
        return
    if former is None and command.cause != "join":  # the peer left while a new place was being decided
        if not room.peers:
            del state.rooms[room.room]
        return
    if former:
        remove_objects(state, room, former)
        _remove_from_worker(state, room, former)
    worker = state.worker(place)
    peer = PeerState(
        command.peer,
        command.join,
        place,
        command.generation,
        "placing" if worker else UNPLACED,
        command.app_data,
        command.region,
        command.one_transport,
        command.tenant,
        command.audience,
        # Those of the command are as of its decision; the former place may have answered more until it was stored.
        subscriptions=former.subscriptions
        if former and former.join == command.join
        else {it.subscription: it for it in command.subscriptions},
    )
    state.add_peer(room, peer)
    if worker:
        worker.add_peer(room.room, peer)


def peer_joined(state: State, address: Address, event: events.PeerJoined | events.PeerMoved) -> None:
    """Mark a peer as joined at its place."""
    if peer := placed_peer(state, address.room, event.peer, event.generation):
        peer.status = "joined"


def peer_left(state: State, address: Address, event: events.PeerLeft) -> None:
    """Remove a peer with its objects, and the room with its last peer."""
    peer = current_peer(state, address.room, event.peer, event.generation)
    if peer is None or address.room is None:
        return
    room = state.rooms[address.room]
    remove_objects(state, room, peer)
    _remove_from_worker(state, room, peer)
    state.remove_peer(room, peer)
    if not room.peers:
        del state.rooms[room.room]


def _remove_from_worker(state: State, room: RoomState, peer: PeerState) -> None:
    if worker := state.worker(peer.place):
        worker.remove_peer(room.room, peer.peer)
