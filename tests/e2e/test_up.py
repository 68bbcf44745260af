"""``mafalda up`` as an operator meets it."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from mafalda.client import connect
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


def test_the_page_and_its_nats_are_for_the_pages_own_origin_only(fleet: Up) -> None:
    """A browser lets every page connect to loopback, so the servers must tell foreign pages from their own."""
    page = _page(fleet)
    with urlopen(f"{fleet.page_url}api/config") as answer:
        websocket_port = json.load(answer)["websocketPort"]
    assert _handshake(websocket_port, origin=f"http://{page}") == HTTPStatus.SWITCHING_PROTOCOLS
    assert _handshake(websocket_port, origin="http://elsewhere.example") == HTTPStatus.FORBIDDEN
    assert _status(page, "/", Host=page) == HTTPStatus.OK
    assert _status(page, "/", Host="elsewhere.example") == HTTPStatus.BAD_REQUEST
    assert _status(page, "/api/rooms/not%20an%20id", Host=page) == HTTPStatus.BAD_REQUEST


def test_a_taken_page_port_is_reported(fleet: Up, state: Path) -> None:
    port = _page(fleet).rsplit(":", 1)[1]
    refused = fleet.mafalda(
        "up", "--nats-port", "0", "--web-port", port, "--nats-url", "", "--store", str(state), check=False
    )
    assert refused.returncode == 1
    assert port in refused.stderr


def _page(fleet: Up) -> str:
    """Host and port of the room page."""
    if fleet.page_url is None:
        pytest.skip("the room page has not been built: Node 22 with npm is missing (see `scripts/web build`)")
    return fleet.page_url.removeprefix("http://").rstrip("/")


def _handshake(port: int, *, origin: str) -> int:
    websocket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    return _status(
        f"127.0.0.1:{port}", "/", Origin=origin, **websocket, **{"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )


def _status(address: str, path: str, **headers: str) -> int:
    with closing(HTTPConnection(address, timeout=STOP_TIMEOUT_S)) as connection:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


async def test_the_log_is_archived_and_read_as_one(fleet: Up, tmp_path: Path) -> None:
    async with connect(fleet.nats_url) as client, client.join("archived", "alice"), client.join("archived", "bob"):
        pass
    folder = str(tmp_path / "archive")
    assert "segments written" in fleet.mafalda("archive", "run", folder, "--once", "--segment-entries", "3").stdout
    archived = fleet.json("archive", "verify", folder)
    assert len(archived) > 1
    end = archived[-1]["lastSeq"]
    assert [it["firstSeq"] for it in archived[1:]] == [it["lastSeq"] + 1 for it in archived[:-1]]
    stored = fleet.mafalda("log", "--json").stdout.splitlines()[:end]
    assert len(stored) == end
    assert fleet.mafalda("log", "--json", "--archive", folder).stdout.splitlines()[:end] == stored
    at_end = ("replay", "--seq", str(end))
    assert fleet.json(*at_end, "--archive", folder) == fleet.json(*at_end)
    changed = next((tmp_path / "archive" / "log").iterdir())
    changed.write_bytes(changed.read_bytes()[:-20])
    refused = fleet.mafalda("archive", "verify", folder, check=False)
    assert refused.returncode == 1
    assert changed.name in refused.stderr
