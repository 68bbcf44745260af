"""An agent that hangs and dies in mid-request: what an application of mediasoup's own Node library gets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import up
from tests.e2e.dropin.conftest import overview
from tests.e2e.node.conftest import Node, through_dropin

STOP_TIMEOUT_S = 20


def _line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_requests_end_in_bounded_time_when_their_agent_hangs_and_dies(state: Path, node: Node) -> None:
    with (
        up(state, "--servers", "2", "--workers", "1", "--policy", "spread") as fleet,
        node.run(Path(__file__).with_name("killed.js"), **through_dropin(fleet)) as application,
    ):
        made = _line(application)
        peers = overview(fleet, made["router"])["peers"]
        server = next(peer["server"] for peer in peers if made["transport"] in peer["transportIds"])
        agent = psutil.Process(fleet.pids[f"agent {server}"])
        agent.suspend()  # so that what is asked for now is under way when it dies
        assert application.stdin is not None
        application.stdin.write("go\n")
        application.stdin.flush()
        assert _line(application) == {"asked": 3}
        agent.kill()
        seen = _line(application)
        assert application.wait(STOP_TIMEOUT_S) == 0
    print(seen)  # when each ended, for who wants to know (pytest -rP)
    assert {end["how"] for end in seen["ends"]} == {"rejected"}, seen
    assert (seen["died"], seen["closed"]) == (False, False)
