"""Failures under real media. Tests that take long are marked ``chaos`` and run by ``make chaos`` alone."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mafalda.bus.nats.cluster import NatsCluster, run_cluster
from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from tests.e2e.conftest import Up, up


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what ``make chaos`` alone runs."""
    if os.environ.get("MAFALDA_CHAOS"):
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured as a table."""
    report = os.environ.get("MAFALDA_CHAOS_REPORT")
    if not report or not Path(report).exists():
        return
    terminalreporter.section("failures: seconds without a picture")
    for line in Path(report).read_text(encoding="utf-8").splitlines():
        figures = json.loads(line)
        name = figures.pop("scenario")
        terminalreporter.write_line(f"{name:<58} {'  '.join(f'{key}={value}' for key, value in figures.items())}")


@pytest.fixture
async def nats() -> AsyncIterator[NatsServer]:
    """A nats-server that the test may kill and start again."""
    async with run_server(ServerConfig(port=0)) as server:
        yield server


@pytest.fixture
async def cluster() -> AsyncIterator[NatsCluster]:
    """Three nats-servers, with three copies of the log."""
    async with run_cluster() as servers:
        yield servers


Start = Callable[..., AbstractContextManager[Up]]


@pytest.fixture
def fleet_at(tmp_path: Path) -> Start:
    """Start a fleet on a NATS that the test has."""

    @contextmanager
    def start(url: str, *arguments: str) -> Iterator[Up]:
        with up(tmp_path, "--nats-url", url, "--policy", "spread", "--no-page", *arguments) as running:
            yield running

    return start
