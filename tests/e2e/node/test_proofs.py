"""Media between two real workers, asked of the fleet with mediasoup's own, unmodified Node library (``proofs.js``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Up
from tests.e2e.node.conftest import Node, through_dropin

PROOFS = Path(__file__).with_name("proofs.js")
TIMEOUT_S = 60
Prove = Callable[[str], Any]


@pytest.fixture
def prove(fleet: Up, node: Node) -> Prove:
    """Run a proof; what it saw, on two workers and through a relay."""

    def run(name: str) -> Any:
        command = json.dumps([sys.executable, "-m", "mafalda"])
        with node.run(PROOFS, name, MAFALDA_COMMAND=command, **through_dropin(fleet)) as process:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        seen = json.loads(printed)
        assert seen["workers"] == 2
        assert seen["relays"] >= 1
        return seen

    return run


def test_rtp_arrives_in_order_through_plain_and_direct_transports(prove: Prove) -> None:
    for steps in prove("rtp")["steps"]:
        assert steps == list(range(200))


def test_simulcast_layers_are_switched_behind_a_relay(prove: Prove) -> None:
    seen = prove("simulcast")
    assert seen["type"] == "simulcast"
    assert [layer for layer in seen["layers"] if layer is not None][-1] == 0
    assert seen["sizes"] == [100, 300, 100]
    assert seen["ssrcs"] == [seen["expected"]]


def test_what_is_lost_is_asked_for_again_on_either_side(prove: Prove) -> None:
    seen = prove("nack")
    assert seen["asked"] == 5
    assert sorted(seen["steps"]) == list(range(12))
    assert seen["steps"][-1] == 4  # the one that was lost came last
    assert seen["original"]
    assert seen["same"]


def test_key_frame_requests_reach_the_origin(prove: Prove) -> None:
    seen = prove("keyframes")
    assert seen["asked"] == ["pli"]
    assert seen["pictures"] == 3


def test_messages_arrive_in_order_and_sub_channels_choose(prove: Prove) -> None:
    seen = prove("data")
    assert (seen["label"], seen["protocol"]) == ("chat", "words")
    assert seen["got"] == [seen["sent"]] * 3
    all_again = "for all again"
    everything, *choosers = seen["chosen"]
    assert everything == [all_again]
    assert choosers == [["only for 1, required", "for 2", all_again]] * 2  # where the data producer is, and elsewhere
