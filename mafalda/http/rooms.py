"""What the API shows of rooms. Pure."""

from __future__ import annotations

from collections.abc import Collection

from mafalda.errors import NotFound
from mafalda.http.models import PeerView, ProducerView, RoomList, RoomSummary, RoomView
from mafalda.projection.state import PeerState, ProducerState, RoomState, State

MAX_ROOMS = 1000


def room_list(state: State, only: Collection[str] | None, *, after: str, limit: int) -> RoomList:
    """A page of the rooms.

    Args:
        state: As of now.
        only: The rooms that may be seen; ``None``: all.
        after: Begin after this id.
        limit: At most so many.
    """
    found = [room for id, room in sorted(state.rooms.items()) if only is None or id in only]
    return RoomList(total=len(found), rooms=[_summary(room) for room in found if room.room > after][:limit])


def room_view(state: State, id: str) -> RoomView:
    """A room.

    Raises:
        NotFound: Nobody is in it.
    """
    room = state.rooms.get(id)
    if room is None:
        raise NotFound("there is no such room now", room=id)
    return RoomView(
        room=id,
        seq=state.seq,
        peers=[_peer(peer) for _, peer in sorted(room.peers.items())],
        producers=[_producer(producer) for _, producer in sorted(room.producers.items())],
    )


def producers_of(state: State, room: str, peer: str) -> list[ProducerView]:
    """What a peer sends.

    Raises:
        NotFound: It is not in the room.
    """
    found = state.rooms.get(room)
    if found is None or peer not in found.peers:
        raise NotFound("no such peer in this room", room=room, peer=peer)
    return [_producer(it) for _, it in sorted(found.producers.items()) if it.peer == peer]


def _summary(room: RoomState) -> RoomSummary:
    audience = sum(peer.audience for peer in room.peers.values())
    return RoomSummary(room=room.room, peers=len(room.peers), audience=audience, producers=len(room.producers))


def _peer(peer: PeerState) -> PeerView:
    return PeerView(
        peer=peer.peer,
        status=peer.status,
        audience=peer.audience,
        server=peer.place.server,
        worker=peer.place.worker,
        generation=peer.generation,
        app_data=peer.app_data,
    )


def _producer(it: ProducerState) -> ProducerView:
    kind = "data" if it.data else it.media_kind
    return ProducerView.model_validate(
        {"producer": it.producer, "peer": it.peer, "kind": kind, "paused": it.paused, "app_data": it.app_data}
    )
