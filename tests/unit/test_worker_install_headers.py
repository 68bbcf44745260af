"""Our C++: compiled with sanitizers and run; what stands in for a library is compared with what it replaces."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mafalda.mediasoup.install import cache, system

HERE = Path(__file__).parent
COMPILER = shutil.which("c++")
FLAGS = ("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
    pytest.mark.timeout(900),  # a compiler with sanitizers takes its time on a busy machine
]


def run(source: str, target: Path, *arguments: str | Path) -> str:
    """Compile and run a program, with further arguments for the compiler.

    Returns: what it printed.
    """
    command = [str(COMPILER), *FLAGS, str(HERE / source), "-o", str(target), *map(str, arguments)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    ended = subprocess.run([target], capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def headers_of(overlay: str) -> str:
    """The compiler's argument for an overlay's headers."""
    return f"-I{next(cache.OVERLAY.glob(f'{overlay}-*')) / 'include'}"


def test_the_dense_map_does_what_a_standard_map_does(tmp_path: Path) -> None:
    assert run("worker_install_dense.cpp", tmp_path / "dense", headers_of("unordered_dense")) == "same\n"


@pytest.mark.skipif("libsrtp2-dev" in system.missing_system_packages(), reason="libsrtp2-dev is not installed")
def test_srtp_3s_calls_over_srtp_2(tmp_path: Path) -> None:
    printed = run("worker_install_srtp.cpp", tmp_path / "srtp", headers_of("libsrtp"), "-lsrtp2")
    assert printed == "4 profiles\n"


def test_the_batch_loses_reorders_and_repeats_nothing_whatever_the_kernel_refuses(tmp_path: Path) -> None:
    batch = cache.NATIVE / "src" / "handles" / "UdpSendBatch.cpp"
    printed = run("worker_install_batch.cpp", tmp_path / "batch", f"-I{cache.NATIVE / 'include'}", batch)
    assert printed.endswith(" checks\n")


def test_the_streams_of_an_srtp_session_are_those_that_were_inserted(tmp_path: Path) -> None:
    table = next(cache.OVERLAY.glob("libsrtp-*")) / "stream_table.c"
    printed = run("worker_install_stream_table.cpp", tmp_path / "table", f"-I{HERE / 'worker_install_include'}", table)
    assert printed == "20000 checks\n"
