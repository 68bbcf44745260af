"""Pages of a room: together they are the room, and each fits a message."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from mafalda.client.session.view import RoomSnapshotView
from mafalda.contract.messages.envelope import MAX_MESSAGE_BYTES
from mafalda.contract.messages.payload import Place
from mafalda.projection.state import PeerState, ProducerState, RoomState
from mafalda.workers.peers.room_pages import room_page

PLACE = Place(server="s1", worker="s1-0-a")


def room_of(peers: int, producers: int, data_producers: int) -> RoomState:
    room = RoomState("lobby")
    for number in range(peers):
        peer = f"peer-{number}"
        room.peers[peer] = PeerState(peer, "join", PLACE, 1, "joined", {"name": "x" * 100}, None)
    for number in range(producers + data_producers):
        data = number >= producers
        producer = ProducerState(f"producer-{number}", "peer-0", "t", PLACE, 1, data, None if data else "video")
        room.producers[producer.producer] = producer
    return room


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 3000))
def test_the_pages_are_the_room(peers: int, producers: int, data_producers: int, page_bytes: int) -> None:
    room = room_of(peers, producers, data_producers)
    view = RoomSnapshotView()
    page = room_page(room, 7, page_bytes=page_bytes)
    view.start(page)
    pages = 1
    while page.next is not None:
        page = room_page(room, 7, after=page.next, page_bytes=page_bytes)
        view.add(page)
        pages += 1
    assert set(view.peers) == set(room.peers)
    assert set(view.producers) == set(room.producers)
    assert pages <= peers + producers + data_producers + 1
    if page_bytes == 0 and peers > 1:
        assert pages > 1


def test_a_page_goes_on_where_the_last_one_ended_though_that_one_is_gone() -> None:
    room = room_of(9, 0, 0)
    page = room_page(room, 7, page_bytes=300)
    assert page.next is not None
    del room.peers[page.peers[-1].peer]
    rest = room_page(room, 8, after=page.next)
    seen = [peer.peer for peer in (*page.peers, *rest.peers)]
    assert seen == sorted(f"peer-{number}" for number in range(9))


def test_a_room_that_is_not_known_is_empty() -> None:
    assert room_page(None, 3).peers == []


def test_a_room_of_ten_thousand_comes_in_pages_that_fit_a_message() -> None:
    room, after = room_of(10_000, 50, 0), None
    seen: list[str] = []
    while True:
        page = room_page(room, 7, after=after)
        assert len(orjson.dumps(page.to_json_dict())) < MAX_MESSAGE_BYTES
        seen += [peer.peer for peer in page.peers]
        if (after := page.next) is None:
            break
    assert sorted(seen) == sorted(room.peers)


def test_the_audience_is_a_number_and_a_roster_on_request() -> None:
    room, seen = room_of(10_000, 5, 0), []
    for number in range(2, 10_000):
        room.peers[f"peer-{number}"].audience = True
    page = room_page(room, 7)
    assert ([peer.peer for peer in page.peers], page.audience, page.next) == (["peer-0", "peer-1"], 9_998, None)
    assert len(page.producers) == 5

    after: str | None = None
    while True:
        page = room_page(room, 7, after=after, audience=True)
        assert len(orjson.dumps(page.to_json_dict())) < MAX_MESSAGE_BYTES
        assert (page.audience, page.producers) == (9_998, [])
        seen += [peer.peer for peer in page.peers]
        if (after := page.next) is None:
            break
    assert seen == sorted(f"peer-{number}" for number in range(2, 10_000))
