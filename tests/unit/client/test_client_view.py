"""What a client believes of its room, from room events alone."""

from __future__ import annotations

import pytest

from mafalda.client.session.view import RoomSnapshotView
from mafalda.contract.messages import events
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.queries import DataProducerInfo, PeerInfo, ProducerInfo, RoomSnapshot
from mafalda.errors import NoCapacity


def opened(producer: str, *, peer: str = "bob", generation: int = 1) -> events.ProducerOpened:
    return events.ProducerOpened(
        peer=peer,
        producer=producer,
        transport="t",
        server="s",
        worker="w",
        generation=generation,
        media_kind="audio",
        type="simple",
    )


def moved(peer: str, generation: int = 2) -> events.PeerMoved:
    return events.PeerMoved(peer=peer, server="s", worker="w2", generation=generation, cause="worker-died")


def closed(producer: str, reason: events.ClosedReason, generation: int = 1) -> events.ProducerClosed:
    return events.ProducerClosed(peer="bob", producer=producer, generation=generation, reason=reason)


@pytest.fixture
def view() -> RoomSnapshotView:
    """As of entry 10: bob sends voice and chat, carol sends a camera."""
    started = RoomSnapshotView()
    started.start(
        RoomSnapshot(
            seq=10,
            peers=[PeerInfo(peer="bob"), PeerInfo(peer="carol")],
            producers=[
                ProducerInfo(producer="voice", peer="bob", media_kind="audio", paused=False),
                ProducerInfo(producer="camera", peer="carol", media_kind="video", paused=False),
            ],
            data_producers=[DataProducerInfo(data_producer="chat", peer="bob", label="", protocol="")],
        )
    )
    return started


def test_what_the_snapshot_holds_already_is_passed_over(view: RoomSnapshotView) -> None:
    assert view.apply(10, events.PeerLeft(peer="bob", generation=1)) == {}
    assert "bob" in view.peers
    assert view.apply(11, events.PeerLeft(peer="bob", generation=1)) == {"voice": "closed", "chat": "closed"}
    assert set(view.peers) == {"carol"}
    assert set(view.producers) == {"camera"}


def test_a_moved_peer_takes_its_producers_along_and_brings_them_back(view: RoomSnapshotView) -> None:
    assert view.apply(11, moved("bob")) == {"voice": "moved", "chat": "moved"}
    assert set(view.producers) == {"camera"}
    assert view.apply(12, opened("voice", generation=2)) == {"voice": "opened"}
    assert "bob" in view.peers


def test_a_stranded_peer_has_no_producers(view: RoomSnapshotView) -> None:
    error = ErrorInfo.of(NoCapacity("full"))
    assert view.apply(11, events.PeerStranded(peer="bob", generation=1, error=error)) == {
        "voice": "moved",
        "chat": "moved",
    }


@pytest.mark.parametrize(
    ("reason", "change"),
    [("closed", "closed"), ("peer-left", "closed"), ("transport-closed", "moved"), ("worker-died", "moved")],
)
def test_why_a_producer_closed_says_whether_it_comes_back(
    view: RoomSnapshotView, reason: events.ClosedReason, change: str
) -> None:
    assert view.apply(11, closed("voice", reason)) == {"voice": change}


def test_a_close_of_an_older_placement_is_passed_over(view: RoomSnapshotView) -> None:
    view.apply(11, opened("voice", generation=3))
    assert view.apply(12, closed("voice", "closed", generation=2)) == {}
    assert "voice" in view.producers
    assert view.apply(13, closed("voice", "closed", generation=3)) == {"voice": "closed"}
    assert view.apply(14, closed("voice", "closed", generation=3)) == {}


def test_pause_and_resume_show(view: RoomSnapshotView) -> None:
    for seq, (event, paused) in enumerate(
        [
            (events.ProducerPaused(peer="bob", producer="voice"), True),
            (events.ProducerResumed(peer="bob", producer="voice"), False),
        ],
        start=11,
    ):
        view.apply(seq, event)
        info = view.producers["voice"]
        assert isinstance(info, ProducerInfo)
        assert info.paused is paused
    assert view.apply(20, events.ProducerPaused(peer="bob", producer="nothing")) == {}


def test_what_is_handed_over_goes_on_until_it_is_open_at_the_new_place(view: RoomSnapshotView) -> None:
    assert view.apply(11, moved("bob").model_copy(update={"handover": True})) == {}
    assert "voice" in view.producers
    assert not view.can_consume("voice")
    assert view.apply(12, opened("voice", generation=2)) == {"voice": "opened"}
    assert view.can_consume("voice")
    assert view.apply(13, closed("voice", "peer-moved")) == {}
    assert view.apply(
        14, events.DataProducerClosed(peer="bob", data_producer="chat", generation=1, reason="peer-moved")
    ) == {"chat": "moved"}
