"""mediasoup-go's own tests, unchanged, with the drop-in as their worker; by ``make test-versions``.

They give a worker one second to start and a request five, so they want a machine that is not busy with other things.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mafalda.dropin.process.config_file import NAME
from mafalda.mediasoup.install.cache import cache_root
from tests.e2e.conftest import up
from tests.e2e.go.conftest import BUILD_TIMEOUT_S, EXAMPLE, go_environment, install_go

MODULE = "github.com/jiyeyuran/mediasoup-go/v2"
TIMEOUT_S = 600


@pytest.mark.skipif(
    os.environ.get("MAFALDA_TEST_VERSIONS") != "all", reason="its time limits want a quiet machine: make test-versions"
)
@pytest.mark.timeout(BUILD_TIMEOUT_S + TIMEOUT_S + 60)
def test_its_own_tests_pass(tmp_path: Path) -> None:
    root = cache_root().parent / "go"
    go, environment = str(install_go(root)), {**go_environment(root)}
    told = subprocess.run(
        [go, "mod", "download", "-json", MODULE], cwd=EXAMPLE, env=environment, capture_output=True, check=True
    )
    source = tmp_path / "source"
    shutil.copytree(json.loads(told.stdout)["Dir"], source)
    for path in (source, *source.rglob("*")):  # the module cache is read-only
        path.chmod(path.stat().st_mode | 0o200)
    program = tmp_path / "mediasoup-go.test"
    subprocess.run(
        [go, "test", "-c", "-o", str(program), "."], cwd=source, env=environment, timeout=BUILD_TIMEOUT_S, check=True
    )
    worker = tmp_path / "mafalda-worker"
    worker.symlink_to(Path(sys.executable).with_name("mafalda-worker"))
    with up(tmp_path, "--workers", "2") as fleet:
        (tmp_path / NAME).write_text(f"MAFALDA_NATS_URL={fleet.nats_url}\nMAFALDA_MEDIASOUP_VERSION=3.26.0\n")
        ran = subprocess.run(
            [str(program), "-test.v", f"-test.timeout={TIMEOUT_S}s"],
            cwd=source,
            env={**environment, "MEDIASOUP_WORKER_BIN": str(worker)},
            capture_output=True,
            text=True,
            check=False,
        )
    outcomes = [line for line in ran.stdout.splitlines() if line.startswith(("--- PASS", "--- FAIL", "panic:"))]
    failed = [line for line in outcomes if not line.startswith("--- PASS")]
    print(f"mediasoup-go: {len(outcomes) - len(failed)} of {len(outcomes)} pass")
    assert failed == [], ran.stdout[-5000:]
    assert len(outcomes) >= 115
