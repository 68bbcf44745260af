"""``mafalda up --nats-servers 3``: the log has three copies, and one server may go at any time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mafalda.bus.config import NKEY_FILE_VARIABLE, BusConfig, read_seed, server_urls
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import call
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM, SNAPSHOT_STREAM
from mafalda.client import connect
from mafalda.contract.permissions import AUTH_STREAM
from tests.e2e.conftest import closed_up


@pytest.mark.timeout(180)
async def test_one_command_makes_a_cluster_that_survives_its_leader(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_up(state, "--nats-servers", "3", "--workers", "1", "--no-page") as running:
        assert running.keys is not None
        servers = server_urls(running.nats_url)
        operator = BusConfig(servers=servers, nkey_seed=read_seed(running.keys / "operator.nk"))
        async with open_connection(operator) as connection:
            for stream in (LOG_STREAM, LOAD_STREAM, SNAPSHOT_STREAM, AUTH_STREAM):
                info = await call(connection, f"STREAM.INFO.{stream}")
                assert info["config"]["num_replicas"] == 3
                assert len(info["cluster"]["replicas"]) == 2
            leader = (await call(connection, f"STREAM.INFO.{LOG_STREAM}"))["cluster"]["leader"]
        monkeypatch.setenv(NKEY_FILE_VARIABLE, str(running.keys / "application.nk"))
        async with connect(running.nats_url) as client, client.join("clustered", "alice"):
            os.kill(running.pids[leader], signal.SIGKILL)
            async with client.join("clustered", "bob"):
                assert {it["peer"] for it in running.json("ls")["rooms"][0]["peers"]} == {"alice", "bob"}
        assert running.json("audit")["ok"]
