"""Applications that their lock files pin to older mediasoup libraries: real media over two real workers."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mafalda.client.media import ClipSpec, make_clip, open_playback
from tests.e2e.conftest import Up
from tests.e2e.node.conftest import INSTALL_TIMEOUT_S, Node, through_dropin
from tests.e2e.node.test_conference import conference, stage, watch_elsewhere
from tests.e2e.node.test_proofs import PROOFS
from tests.e2e.versions import suites

VERSIONS = ("3.13.24", "3.26.0")
TIMEOUT_S = 60
pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S + 4 * TIMEOUT_S)


@pytest.fixture(params=VERSIONS)
def pinned(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    """A Node whose ``require("mediasoup")`` finds the version."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "mediasoup").symlink_to(suites.package(suites.modules(), request.param))
    return Node(tmp_path / "node_modules")


async def test_a_conference_is_seen_and_heard_from_another_worker(fleet: Up, pinned: Node, tmp_path: Path) -> None:
    spec = ClipSpec(frame_rate=15, duration_s=4)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(conference(pinned, **through_dropin(fleet)))
        clip = make_clip(tmp_path / "clip.webm", spec)
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        show = await stack.enter_async_context(stage(server, "pinned", playback))
        viewer, _ = await watch_elsewhere(fleet, stack, server, "pinned", show)
        assert (await viewer.event("speaker"))["peer"] == "publisher"


def prove(name: str, fleet: Up, node: Node) -> Any:
    """Run a proof of ``proofs.js``; what it saw, on two workers and through a relay."""
    command = json.dumps([sys.executable, "-m", "mafalda"])
    with node.run(PROOFS, name, MAFALDA_COMMAND=command, **through_dropin(fleet)) as process:
        printed, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    seen = json.loads(printed)
    assert (seen["workers"], seen["relays"] >= 1) == (2, True)
    return seen


def test_packets_and_messages_cross(fleet: Up, pinned: Node) -> None:
    for steps in prove("rtp", fleet, pinned)["steps"]:
        assert steps == list(range(200))
    assert prove("simulcast", fleet, pinned)["sizes"] == [100, 300, 100]
    seen = prove("data", fleet, pinned)
    assert seen["got"] == [seen["sent"]] * 3
