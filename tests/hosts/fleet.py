"""A fleet over hosts: NATS and an allocator next to the test, an agent on each host."""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from tests.hosts.network import Network

LOAD_TEST_TIMEOUT_S = 120
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
MAFALDA = (sys.executable, "-m", "mafalda")


@dataclass(frozen=True, slots=True)
class HostFleet:
    """What runs."""

    network: Network
    nats: NatsServer
    agents: Mapping[str, subprocess.Popen[str]]

    @property
    def nats_url(self) -> str:
        return self.nats.url

    @contextmanager
    def load_test(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A load test that prints JSON. It ends with the block."""
        command = [*MAFALDA, "load-test", "--nats-url", self.nats_url, "--json", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()  # nothing, if it has ended

    def load_report(self, *arguments: str) -> Any:
        """The report of a load test."""
        with self.load_test(*arguments) as running:
            return report_of(running)

    def received(self) -> dict[str, int]:
        """Packets that each host has received from all others."""
        return {name: host.received() for name, host in self.network.hosts.items()}

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        command = [*MAFALDA, *arguments, "--nats-url", self.nats_url, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def report_of(load_test: subprocess.Popen[str]) -> Any:
    """The report of a load test when it has ended."""
    output, _ = load_test.communicate(timeout=LOAD_TEST_TIMEOUT_S)
    return json.loads(output)


@asynccontextmanager
async def open_fleet(
    network: Network,
    *,
    workers: int,
    regions: Mapping[str, str] | None = None,
    allocator: Sequence[str] = (),
    clients: Collection[str] = (),
    websocket_origins: tuple[str, ...] | None = None,
) -> AsyncIterator[HostFleet]:
    """Start it; all of it ends with the block.

    Args:
        network: The hosts.
        workers: Of each host.
        regions: By host.
        allocator: More arguments of the allocator.
        clients: Hosts without an agent.
        websocket_origins: Of pages that may connect to NATS; ``None``: it has no websocket.
    """
    config = ServerConfig(host=network.own_address, port=0, websocket_origins=websocket_origins)
    async with run_server(config) as nats:
        with ExitStack() as stack:
            own = ["allocator", "--nats-url", nats.url, "--policy", "spread", *allocator]
            started = [_start(stack, [*MAFALDA, *own])]
            agents = {}
            for name, host in network.hosts.items():
                if name in clients:
                    continue
                own = ["agent", "--nats-url", nats.url, "--server", name, "--workers", str(workers)]
                own += ["--listen-ip", host.address, "--drain-grace", "0"]
                own += ["--region", regions[name]] if regions else []
                agents[name] = _start(stack, host.command(*MAFALDA, *own))
            async with asyncio.timeout(START_TIMEOUT_S):
                for process in (*started, *agents.values()):
                    await _ready(process)
            yield HostFleet(network, nats, agents)


async def _ready(process: subprocess.Popen[str]) -> None:
    """Wait for the line that a component prints when it serves; no thread waits on after the test has given up."""
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0)[0]:  # noqa: ASYNC110 - a pipe of another process
        await asyncio.sleep(0.05)
    assert process.stdout.readline() == "ready\n"


def _start(stack: ExitStack, command: Sequence[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*command, "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,  # its log goes where that of the test goes
    )

    def stop() -> None:
        family = psutil.Process(process.pid).children(recursive=True)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            for child in family:
                child.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    stack.callback(stop)
    return process
