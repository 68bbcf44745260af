"""``install_worker`` as several processes call it: one builds, the others wait and use what it built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

from mafalda.mediasoup.install import cache, installer, proving
from mafalda.mediasoup.install.built import lacks
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.mediasoup.install.errors import SelfTestFailed, SourceUnavailable
from mafalda.mediasoup.install.installer import Installed, install_worker
from mafalda.mediasoup.install.overlays import Flatc
from mafalda.mediasoup.install.progress import Progress

# The build itself is replaced by one that says that it began, waits until it is let go on, and publishes.
INSTALL = """
import json, sys
from pathlib import Path
from mafalda.mediasoup.install import installer

def build(entry, progress, started):
    print("building", flush=True)
    sys.stdin.readline()
    binary = entry.root / "fresh"
    binary.write_text("#!/bin/sh\\nexit 41\\n")
    return installer.Installed(entry.publish(binary, "{}"), "built", "x", 0.0)

installer._build = build
installed = installer.install_worker(lambda step: print(step.phase, flush=True))
print(json.dumps(installed.to_json()), flush=True)
"""


def start(environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL],
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    pytest.fail(f"the process ended without saying {word}")


def test_two_installs_at_once_build_once(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MEDIASOUP_WORKER_BIN"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "xdg")
    with start(environment, tmp_path) as first:
        read_until(first, "building")
        with start(environment, tmp_path) as second:
            read_until(second, "wait")
            answered, _ = first.communicate("go on\n", timeout=30)
            waited, _ = second.communicate(timeout=30)
    built, found = json.loads(answered.splitlines()[-1]), json.loads(waited.splitlines()[-1])
    assert (built["origin"], found["origin"]) == ("built", "cache")
    assert built["path"] == found["path"]
    assert "building" not in waited


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheEntry:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDIASOUP_WORKER_BIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return cache.current_entry()


@pytest.fixture
def steps_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that takes minutes or the network is replaced; the order, the cache and the log are real."""
    binary = tmp_path / "compiled"
    binary.write_text("#!/bin/sh\nexit 41\n")
    binary.chmod(0o755)
    monkeypatch.setattr(installer, "ensure_system_packages", lambda progress, log: None)
    monkeypatch.setattr(installer, "obtain_tarball", lambda folder, progress: folder / "tarball")
    monkeypatch.setattr(installer, "unpack_worker", lambda tarball, target: target)
    monkeypatch.setattr(installer, "add_libsrtp", lambda worker, folder, progress, log: None)
    monkeypatch.setattr(installer, "prepare_source", lambda worker, flatc: None)
    monkeypatch.setattr(installer, "compile_worker", lambda worker, build, flatc, options, progress, log: binary)
    return binary


def test_a_worker_that_fails_its_self_test_is_never_published(
    empty_place: CacheEntry, steps_replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was compiled here starts like a worker and can do nothing else."""
    with pytest.raises(SelfTestFailed):
        install_worker()
    assert empty_place.state() == "missing"
    assert [path for path in empty_place.root.iterdir() if path.name.startswith("work-")] == []
    assert "self-test" in empty_place.log_path.read_text()


def test_a_build_is_tested_described_and_published(
    empty_place: CacheEntry, steps_replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"dtls_roles": ["client", "server"]}
    monkeypatch.setattr(proving, "_self_test", lambda binary, batch, log: {**seen, "batch": batch})
    installed = install_worker()
    assert (installed.path, installed.origin) == (empty_place.binary, "built")
    assert installed.self_test == {"off": {**seen, "batch": "off"}, "on": {**seen, "batch": "on"}}
    assert set(installed.phases_s) == {"packages", "source", "prepare", "compile", "self_test"}
    info = json.loads((empty_place.folder / "build.json").read_text())
    assert (info["version"], info["key"], info["self_test"]) == ("3.27.1", empty_place.key, installed.self_test)
    assert (info["libsrtp"]["as_meant"], info["batch"]["as_meant"]) == (True, True)
    assert json.loads(json.dumps(installed.to_json()))["path"] == str(empty_place.binary)
    again = install_worker()
    assert (again.path, again.origin) == (empty_place.binary, "cache")


def test_a_worker_that_fails_with_its_batch_is_built_to_do_without(
    empty_place: CacheEntry, steps_replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def self_test(binary: Path, batch: str, log: TextIO) -> dict[str, Any]:
        if batch == "on":
            raise SelfTestFailed("packets were lost in the worker")
        return {"packets": 1}

    def prepare(worker: Path, flatc: Flatc) -> None:
        header = worker / "include" / "handles" / "UdpSendBatchDefault.hpp"
        header.parent.mkdir(parents=True)
        header.write_bytes((cache.NATIVE / header.relative_to(worker)).read_bytes())

    def recompile(build: Path, progress: Progress, log: TextIO) -> Path:
        header = build.with_name("worker") / "include" / "handles" / "UdpSendBatchDefault.hpp"
        assert "UdpSendBatchByDefault{ false };" in header.read_text()
        steps_replaced.write_text("#!/bin/sh\n# without\nexit 41\n")
        return steps_replaced

    monkeypatch.setattr(proving, "_self_test", self_test)
    monkeypatch.setattr(installer, "prepare_source", prepare)
    monkeypatch.setattr(installer, "recompile", recompile)
    install_worker()
    assert "# without" in empty_place.binary.read_text()
    (lack,) = lacks(empty_place.binary)
    assert "packets were lost in the worker" in lack.what


def test_without_libsrtps_source_the_distributions_library_is_used(
    empty_place: CacheEntry, steps_replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_libsrtp(worker: Path, folder: Path, progress: Progress, log: TextIO) -> None:
        raise SourceUnavailable("no Debian archive")

    monkeypatch.setattr(proving, "_self_test", lambda binary, batch, log: {})
    monkeypatch.setattr(installer, "add_libsrtp", add_libsrtp)
    install_worker()
    (lack,) = lacks(empty_place.binary)
    assert "(no Debian archive)" in lack.what


def test_force_builds_again(empty_place: CacheEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builds: list[str] = []

    def build(entry: CacheEntry, progress: Progress, started: float) -> Installed:
        builds.append(entry.name)
        binary = tmp_path / "fresh"
        binary.write_text(f"#!/bin/sh\n# {len(builds)}\nexit 41\n")
        return Installed(entry.publish(binary, "{}"), "built", "x", 0.0)

    monkeypatch.setattr(installer, "_build", build)
    install_worker()
    install_worker()
    assert len(builds) == 1
    install_worker(force=True)
    assert len(builds) == 2
    assert "# 2" in empty_place.binary.read_text()
