"""Where a worker is looked for, and in what order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mafalda.mediasoup.install import cache, locate, pin
from mafalda.mediasoup.install.errors import WorkerBinInvalid
from mafalda.mediasoup.install.locate import Found, find_worker

LIKE_A_WORKER = '#!/bin/sh\n[ -n "$MEDIASOUP_VERSION" ] && exit 0\nexit 41\n'


def executable(path: Path, content: str = LIKE_A_WORKER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


def npm_install(folder: Path, version: str = pin.WORKER_VERSION, content: str = LIKE_A_WORKER) -> Path:
    package = folder / "node_modules" / "mediasoup"
    binary = executable(package / "worker" / "out" / "Release" / "mediasoup-worker", content)
    (package / "package.json").write_text(json.dumps({"name": "mediasoup", "version": version}))
    return binary


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": str(tmp_path / "bin")}


@pytest.fixture
def cached(tmp_path: Path, environ: dict[str, str]) -> Path:
    entry = cache.current_entry(environ)
    entry.root.mkdir(parents=True)
    return entry.publish(executable(tmp_path / "built"), "{}\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "deep" / "inside"
    folder.mkdir(parents=True)
    return folder


def test_nothing_anywhere_is_none(environ: dict[str, str], project: Path) -> None:
    assert find_worker(environ, project) is None


def test_the_variable_wins_over_all(environ: dict[str, str], cached: Path, project: Path, tmp_path: Path) -> None:
    npm_install(project)
    named = executable(tmp_path / "my-worker")
    environ["MEDIASOUP_WORKER_BIN"] = str(named)
    assert find_worker(environ, project) == Found(named, "environment")


def test_the_cache_wins_over_npm(environ: dict[str, str], cached: Path, project: Path) -> None:
    npm_install(project)
    assert find_worker(environ, project) == Found(cached, "cache")


def test_npm_is_found_upward(environ: dict[str, str], project: Path) -> None:
    binary = npm_install(project.parent.parent)
    assert find_worker(environ, project) == Found(binary, "npm")


def test_a_damaged_cache_is_passed_over(environ: dict[str, str], cached: Path, project: Path) -> None:
    cached.write_text("damaged")
    assert find_worker(environ, project) is None
    binary = npm_install(project)
    assert find_worker(environ, project) == Found(binary, "npm")


@pytest.mark.parametrize(
    ("version", "content"),
    [
        ("3.27.0", LIKE_A_WORKER),
        (pin.WORKER_VERSION, "#!/bin/sh\nexit 0\n"),
        (pin.WORKER_VERSION, "#!/bin/sh\nexit 127\n"),
        (pin.WORKER_VERSION, "not a program"),
    ],
)
def test_an_npm_worker_must_be_the_version_and_must_start(
    environ: dict[str, str], project: Path, version: str, content: str
) -> None:
    npm_install(project, version, content)
    assert find_worker(environ, project) is None


def test_an_unusable_npm_install_does_not_hide_a_usable_one_above(environ: dict[str, str], project: Path) -> None:
    npm_install(project, "3.27.0")
    above = npm_install(project.parent)
    assert find_worker(environ, project) == Found(above, "npm")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": 3}'])
def test_a_strange_package_json_is_no_version(environ: dict[str, str], project: Path, content: str) -> None:
    npm_install(project)
    (project / "node_modules" / "mediasoup" / "package.json").write_text(content)
    assert find_worker(environ, project) is None


@pytest.mark.parametrize("value", ["/nowhere/mediasoup-worker", "no-such-program"])
def test_a_wrong_variable_is_an_error_not_a_fallback(
    environ: dict[str, str], cached: Path, project: Path, value: str
) -> None:
    environ["MEDIASOUP_WORKER_BIN"] = value
    with pytest.raises(WorkerBinInvalid) as caught:
        find_worker(environ, project)
    assert caught.value.details == {"value": value}


def test_a_variable_that_names_a_plain_file_is_an_error(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    environ["MEDIASOUP_WORKER_BIN"] = str(plain)
    with pytest.raises(WorkerBinInvalid):
        find_worker(environ, project)


def test_the_variable_may_name_a_program_of_the_path(environ: dict[str, str], project: Path, tmp_path: Path) -> None:
    program = executable(tmp_path / "bin" / "my-worker")
    environ["MEDIASOUP_WORKER_BIN"] = "my-worker"
    assert find_worker(environ, project) == Found(program, "environment")


def test_our_own_drop_in_is_no_real_worker(
    environ: dict[str, str], cached: Path, project: Path, tmp_path: Path
) -> None:
    drop_in = executable(tmp_path / "bin" / "mafalda-worker")
    link = tmp_path / "bin" / "linked"
    link.symlink_to(drop_in)
    for value in ("mafalda-worker", str(drop_in), str(link)):
        environ["MEDIASOUP_WORKER_BIN"] = value
        assert find_worker(environ, project) == Found(cached, "cache")


def test_starts_hides_our_own_mediasoup_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASOUP_VERSION", "3.27.1")
    assert locate.starts(executable(tmp_path / "worker"))
