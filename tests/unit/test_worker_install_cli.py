"""``mafalda worker``: what goes to standard output, what to standard error, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from mafalda.cli.commands.worker import worker
from mafalda.mediasoup.install import WORKER_VERSION, Step, cache


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """In an empty place: no variable, no cache, no node_modules above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDIASOUP_WORKER_BIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    yield CliRunner()
    structlog.reset_defaults()  # the command made this process log to the runner's standard error


@pytest.fixture
def cached(tmp_path: Path, runner: CliRunner) -> Path:
    binary = tmp_path / "built"
    binary.write_text("#!/bin/sh\nexit 41\n")
    entry = cache.current_entry()
    entry.root.mkdir(parents=True)
    return entry.publish(binary, "{}\n")


def test_path_prints_the_path_alone(runner: CliRunner, cached: Path) -> None:
    result = runner.invoke(worker, ["path"])
    assert (result.exit_code, result.stdout) == (0, f"{cached}\n")


def test_path_as_json_has_the_origin(runner: CliRunner, cached: Path) -> None:
    result = runner.invoke(worker, ["path", "--json"])
    assert json.loads(result.stdout) == {"path": str(cached), "origin": "cache", "version": WORKER_VERSION}


def test_path_without_a_worker_says_what_to_run(runner: CliRunner) -> None:
    result = runner.invoke(worker, ["path"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "mafalda worker install" in result.stderr


def test_a_wrong_variable_is_an_error_in_words_and_in_json(
    runner: CliRunner, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIASOUP_WORKER_BIN", "/nowhere/worker")
    for command in (["path", "--json"], ["install", "--json"]):
        result = runner.invoke(worker, command)
        assert result.exit_code == 1
        assert "MEDIASOUP_WORKER_BIN" in result.stderr
        error = json.loads(result.stdout)["error"]
        assert (error["code"], error["details"]) == ("worker-bin-invalid", {"value": "/nowhere/worker"})


def test_install_finds_what_is_there(runner: CliRunner, cached: Path) -> None:
    result = runner.invoke(worker, ["install"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{cached}\n")
    assert "from the cache" in result.stdout
    assert result.stderr == ""


def test_install_as_json_and_quiet_says_nothing_else(runner: CliRunner, cached: Path) -> None:
    result = runner.invoke(worker, ["install", "--json", "--quiet"])
    installed = json.loads(result.stdout)
    assert (installed["path"], installed["origin"]) == (str(cached), "cache")
    assert result.stderr == ""


def test_a_failed_install_is_specific(
    runner: CliRunner, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with nothing on its PATH, as an ordinary user: which packages, and how."""
    cached.write_text("damaged")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    result = runner.invoke(worker, ["install"])
    assert result.exit_code == 1
    assert "is not what its checksum says" in result.stderr
    assert "apt-get install -y --no-install-recommends g++ gcc pkg-config" in result.stderr
    assert result.stdout == ""


def test_progress_without_a_terminal_is_some_lines_not_hundreds() -> None:
    from mafalda.cli.commands.worker import InstallProgress

    runner = CliRunner()
    with runner.isolation() as (_, stderr, _mixed):
        shown = InstallProgress(terminal=False)
        shown(Step("configure", "meson setup"))
        for done in range(1, 262):
            shown(Step("compile", "a.cpp", done=done, total=261))
        lines = stderr.getvalue().decode().splitlines()
    assert lines[0] == "configure: meson setup"
    assert lines[-1] == "compile: [261/261] a.cpp"
    assert 20 <= len(lines) <= 23
