"""Whole fleets, as ``mafalda up`` makes them: real processes, real NATS, real workers, on free loopback ports."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Up:
    """A running ``mafalda up``."""

    process: subprocess.Popen[bytes]
    nats_url: str
    pids: dict[str, int]
    environment: dict[str, str]
    page_url: str | None  # None: the room page has not been built
    monitor_url: str | None = None  # None: it was not wanted
    keys: Path | None = None  # None: the fleet is open
    page_key: str = ""  # of a closed fleet
    http_url: str | None = None  # None: it was not wanted

    def mafalda(self, *arguments: str, timeout_s: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command against this fleet."""
        return subprocess.run(
            [sys.executable, "-m", "mafalda", *arguments],
            env={**self.environment, "MAFALDA_NATS_URL": self.nats_url, **self.nkey("operator")},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=check,
        )

    def nkey(self, role: str) -> dict[str, str]:
        """The environment that has a role's credential."""
        return {"MAFALDA_NKEY_FILE": str(self.keys / f"{role}.nk")} if self.keys else {}

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self.mafalda(*arguments, "--json").stdout)

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything that it started, however deep."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def environment(state: Path) -> dict[str, str]:
    """An environment in which nothing of a developer's own fleet is seen or touched."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MAFALDA_", "OTEL_")) or key.startswith(("MAFALDA_CHAOS", "MAFALDA_TEST"))
    }
    return {**own, "XDG_STATE_HOME": str(state)}


def up(state: Path, *arguments: str, **extra: str) -> AbstractContextManager[Up]:
    """An open ``mafalda up`` on a free port, for tests that are not about credentials."""
    return _up(state, "--open", *arguments, **extra)


def closed_up(state: Path, *arguments: str) -> AbstractContextManager[Up]:
    """``mafalda up`` as it is by default: closed."""
    return _up(state, *arguments)


@contextmanager
def _up(state: Path, *arguments: str, **extra: str) -> Iterator[Up]:
    """``mafalda up`` on free ports, stopped with SIGTERM if it still runs; the monitor only with ``--monitor``."""
    own = {**environment(state), **extra}
    ports = ["--nats-port", "0", "--web-port", "0", "--monitor-port", "0", "--http-port", "0"]
    if "--monitor" not in arguments:
        ports.append("--no-monitor")
    with (state / "up.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "mafalda", "up", "--json", *ports, *arguments],
            env=own,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        line = _first_line(process)
        assert line, f"mafalda up did not start: {(state / 'up.log').read_text()[-3000:]}"
        ready = json.loads(line)
        page_url, page_key = ready.get("page_url"), ready.get("page_key", "")
        monitor_url, keys = ready.get("monitor_url"), _keys(ready)
        http_url = ready.get("http_url")
        yield Up(process, ready["nats_url"], ready["pids"], own, page_url, monitor_url, keys, page_key, http_url)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()


def _keys(ready: dict[str, Any]) -> Path | None:
    return Path(ready["keys"]) if "keys" in ready else None


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(START_TIMEOUT_S) else b""


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One fleet for all tests that only need one: two workers, the policy that spreads."""
    with up(tmp_path_factory.mktemp("fleet"), "--workers", "2", "--policy", "spread") as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where a fleet of this test's own keeps its log."""
    return tmp_path
