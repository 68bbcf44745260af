"""mediasoup-go's own tests, unchanged, with the drop-in as their worker; by ``make test-versions``.

They give a worker one second to start and a request five, so they want a machine that is not busy with other things.
"""

from __future__ import annotations

import json
import os
import re
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
#: Not only at the beginning of a line: a test may have printed something before.
_PASSED = re.compile(r"--- PASS: (\w+) \(")


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
    listed = subprocess.run([str(program), "-test.list", "."], cwd=source, capture_output=True, text=True, check=True)
    tests = {name for name in listed.stdout.split() if name.startswith("Test")}
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
    passed = set(_PASSED.findall(ran.stdout))
    print(f"mediasoup-go: {len(passed & tests)} of {len(tests)} pass")
    assert passed >= tests, f"{sorted(tests - passed)} did not pass: {ran.stdout[-5000:]}"
    assert len(tests) >= 115
