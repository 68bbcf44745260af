"""The driver's own suite, with the drop-in in front of a fleet in the place of a worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Up
from tests.e2e.dropin.conftest import dropin_environment

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 300


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_every_test_of_a_worker_passes_on_the_drop_in(fleet: Up) -> None:
    worker = Path(sys.executable).with_name("mafalda-worker")
    assert worker.exists()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance/mediasoup"],
        env=dropin_environment(fleet, MAFALDA_TESTED_WORKER_BIN=str(worker)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-10_000:]
    assert "mafalda.command.open-relay." in fleet.mafalda("log", "--json").stdout, "nothing went over a relay"
