"""Go and mediasoup-go, installed once into a cache outside the clone.

What does not belong here: what is run with them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mafalda.mediasoup.install.cache import cache_root

HERE = Path(__file__).parent
EXAMPLE = Path(__file__).parents[3] / "examples" / "go-mediasoup"
INSTALL_TIMEOUT_S, BUILD_TIMEOUT_S = 200, 300


def install_go(root: Path) -> Path:
    """The ``go`` of ``requirements.txt``, installed under ``root`` unless it is there."""
    requirements = HERE / "requirements.txt"
    wanted = root / hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    if not wanted.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix="installing.") as folder:
            partial = Path(folder) / "installed"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run(
                [*command, "--target", str(partial), "-r", str(requirements)], timeout=INSTALL_TIMEOUT_S, check=True
            )
            try:
                partial.rename(wanted)
            except OSError:  # another process was quicker
                assert wanted.exists()
    return wanted / "go" / "bin" / "go"


def go_environment(root: Path) -> Mapping[str, str]:
    """An environment in which Go keeps what it fetches and compiles under ``root``."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAFALDA_", "MEDIASOUP_", "GOROOT"))}
    return {**own, "GOMODCACHE": str(root / "modules"), "GOCACHE": str(root / "build"), "GOTOOLCHAIN": "local"}


@pytest.fixture(scope="session")
def go_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled."""
    root = cache_root().parent / "go"
    program = tmp_path_factory.mktemp("go") / "go-mediasoup"
    built = subprocess.run(
        [str(install_go(root)), "build", "-mod=readonly", "-o", str(program), "."],
        cwd=EXAMPLE,
        env=go_environment(root),
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return program
