"""``mafalda up`` as an operator meets it."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from tests.e2e.conftest import STOP_TIMEOUT_S, Up, up


def test_a_fleet_is_seen_by_ls_and_doctor(fleet: Up) -> None:
    overview = fleet.json("ls")
    (server,) = [server for server in overview["servers"] if server["status"] == "up"]
    assert len(server["workers"]) == 2
    pids = {process.pid for process in fleet.family()}
    assert {worker["pid"] for worker in server["workers"]} <= pids
    findings = {finding["check"]: finding for finding in fleet.json("doctor")["findings"]}
    assert findings["nats"]["health"] == "ok"
    assert server["server"] in findings["fleet"]["found"]
    assert findings["log"]["health"] == "ok"


def test_people_get_tables_and_programs_get_json(fleet: Up) -> None:
    assert "server-1" in fleet.mafalda("ls").stdout
    assert "server-started" in fleet.mafalda("log").stdout
    lines = fleet.mafalda("log", "--json").stdout.splitlines()
    assert any('"mafalda.event.server-started.v1"' in line for line in lines)


def test_sigterm_leaves_nothing_running(state: Path) -> None:
    with up(state, "--servers", "2", "--workers", "1") as running:
        family = running.family()
        assert len(family) >= 6  # supervisor, nats-server, allocator, two agents, two workers
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOP_TIMEOUT_S) == 0
        _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
        assert alive == []


def test_a_killed_supervisor_takes_everything_with_it(state: Path) -> None:
    with up(state, "--workers", "2") as running:
        family = running.family()
        running.process.kill()
        _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
        assert alive == []


def test_a_taken_port_is_said_so(fleet: Up) -> None:
    port = fleet.nats_url.rsplit(":", 1)[1]
    refused = fleet.mafalda("up", "--nats-port", port, "--nats-url", "", check=False)
    assert refused.returncode == 1
    assert port in refused.stderr
