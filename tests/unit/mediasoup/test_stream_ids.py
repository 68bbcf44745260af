"""SCTP stream ids: all different, none reused at once, every one allocated again after it was freed."""

from __future__ import annotations

import pytest

from mafalda.errors import WorkerRequestFailed
from mafalda.mediasoup.transports.stream_ids import MAX_STREAMS, StreamIds


def test_round_robin() -> None:
    ids = StreamIds()
    assert [ids.take() for _ in range(3)] == [0, 1, 2]
    ids.give_back(1)
    assert ids.take() == 3


def test_every_id_can_be_allocated_once() -> None:
    ids = StreamIds()
    assert {ids.take() for _ in range(MAX_STREAMS)} == set(range(MAX_STREAMS))
    with pytest.raises(WorkerRequestFailed):
        ids.take()
    ids.give_back(7)
    assert ids.take() == 7


def test_ids_are_below_the_negotiated_number_of_streams() -> None:
    ids = StreamIds()
    assert [ids.take() for _ in range(3)] == [0, 1, 2]
    ids.limit(4)
    assert ids.take() == 3
    ids.give_back(0)
    assert ids.take() == 0
    with pytest.raises(WorkerRequestFailed):
        ids.take()
