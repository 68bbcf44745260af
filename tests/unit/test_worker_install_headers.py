"""Our C++ headers that stand in for libraries: compiled with sanitizers, and compared with what they replace."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mafalda.mediasoup.install import cache, system

HERE = Path(__file__).parent
COMPILER = shutil.which("c++")
FLAGS = ("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


def run(source: str, overlay: str, target: Path, *libraries: str) -> str:
    """Compile and run a program against an overlay's headers.

    Returns: what it printed.
    """
    include = next(cache.OVERLAY.glob(f"{overlay}-*")) / "include"
    command = [str(COMPILER), *FLAGS, f"-I{include}", str(HERE / source), "-o", str(target), *libraries]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    ended = subprocess.run([target], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_dense_map_does_what_a_standard_map_does(tmp_path: Path) -> None:
    assert run("worker_install_dense.cpp", "unordered_dense", tmp_path / "dense") == "same\n"


@pytest.mark.skipif("libsrtp2-dev" in system.missing_system_packages(), reason="libsrtp2-dev is not installed")
def test_srtp_3s_calls_over_srtp_2(tmp_path: Path) -> None:
    assert run("worker_install_srtp.cpp", "libsrtp", tmp_path / "srtp", "-lsrtp2") == "4 profiles\n"
