"""How many copies of each stream the environment asks for."""

from __future__ import annotations

import pytest

from mafalda.bus.config import REPLICAS_VARIABLE, BusConfig
from mafalda.bus.log.streams import declared
from mafalda.errors import BadInput


def test_each_stream_has_as_many_copies_as_the_environment_says() -> None:
    streams = declared(BusConfig.from_environment({REPLICAS_VARIABLE: "3"}))
    assert [stream["num_replicas"] for stream in streams] == [3, 3, 3]


def test_without_a_number_copies_stay_as_they_are() -> None:
    for environment in ({}, {REPLICAS_VARIABLE: ""}):
        assert all("num_replicas" not in stream for stream in declared(BusConfig.from_environment(environment)))


@pytest.mark.parametrize("value", ["0", "6", "three", " 3"])
def test_another_value_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match=REPLICAS_VARIABLE):
        BusConfig.from_environment({REPLICAS_VARIABLE: value})
