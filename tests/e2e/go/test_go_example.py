"""The worked example in Go, with the unmodified mediasoup-go: on mediasoup's own worker's terms, and over a fleet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mafalda.dropin.process.config_file import NAME
from tests.e2e.conftest import Up
from tests.e2e.go.conftest import BUILD_TIMEOUT_S, INSTALL_TIMEOUT_S

TIMEOUT_S = 60


@pytest.mark.timeout(INSTALL_TIMEOUT_S + BUILD_TIMEOUT_S + TIMEOUT_S + 60)
def test_the_example_runs_over_a_fleet_with_a_file_beside_the_worker(
    go_example: Path, fleet: Up, tmp_path: Path
) -> None:
    worker = tmp_path / "mafalda-worker"
    worker.symlink_to(Path(sys.executable).with_name("mafalda-worker"))
    (tmp_path / NAME).write_text(f"MAFALDA_NATS_URL={fleet.nats_url}\nMAFALDA_MEDIASOUP_VERSION=3.26.0\n")
    # Nothing in the environment: what the worker needs is in the file.
    ran = subprocess.run(
        [str(go_example), str(worker)], env={}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["heard"] == 100
    relays = fleet.mafalda("log", "--room", seen["router"], "--json").stdout
    assert "mafalda.command.open-relay." in relays, "both transports were on one worker"
