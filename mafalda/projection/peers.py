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
    # What the command says is as of its decision; the former place may have answered more until it was stored.
    member = former if former and former.join == command.join else None
    worker = state.worker(place)
    peer = PeerState(
        command.peer,
        command.join,
        place,
        command.generation,
        "placing" if worker else UNPLACED,
        member.app_data if member else command.app_data,
        command.region,
        command.one_transport,
        command.tenant,
        member.audience if member else command.audience,
        member.lease_s if member else command.lease_s,
        member.promoted if member else (False if command.cause == "join" else None),
        subscriptions=member.subscriptions if member else {it.subscription: it for it in command.subscriptions},
    )
    state.add_peer(room, peer)
    if worker:
        worker.add_peer(room.room, peer)


def peer_joined(state: State, address: Address, event: events.PeerJoined | events.PeerMoved) -> None:
    """Mark a peer as joined at its place. The subject says whether it is of the audience."""
    if peer := placed_peer(state, address.room, event.peer, event.generation):
        peer.status = "joined"
        if peer.audience and address.peer is None:
            peer.promoted = True
        _set_audience(state, address, peer, audience=address.peer is not None)


def peer_demoted(state: State, address: Address, event: events.PeerDemoted) -> None:
    """Make a peer one of the audience."""
    if peer := placed_peer(state, address.room, event.peer, event.generation):
        _set_audience(state, address, peer, audience=True)


def peer_updated(state: State, address: Address, event: events.PeerUpdated) -> None:
    """Replace a peer's application data."""
    if peer := placed_peer(state, address.room, event.peer, event.generation):
        peer.app_data = event.app_data


def _set_audience(state: State, address: Address, peer: PeerState, *, audience: bool) -> None:
    if peer.audience == audience:
        return
    peer.audience = audience
    if (worker := state.worker(peer.place)) and address.room:
        worker.remove_peer(address.room, peer.peer)
        worker.add_peer(address.room, peer)


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
