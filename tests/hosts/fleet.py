"""A fleet over hosts: NATS and an allocator next to the test, an agent on each host."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from mafalda.bus.nats.server import ServerConfig, run_server
from tests.hosts.network import Network

LOAD_TEST_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
MAFALDA = (sys.executable, "-m", "mafalda")


@dataclass(frozen=True, slots=True)
class HostFleet:
    """What runs."""

    network: Network
    nats_url: str
    agents: Mapping[str, subprocess.Popen[str]]

    def load_test(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a load test that prints JSON."""
        command = [*MAFALDA, "load-test", "--nats-url", self.nats_url, "--json", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

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
    network: Network, *, workers: int, regions: Mapping[str, str] | None = None, allocator: Sequence[str] = ()
) -> AsyncIterator[HostFleet]:
    """Start it; all of it ends with the block.

    Args:
        network: The hosts.
        workers: Of each host.
        regions: By host.
        allocator: More arguments of the allocator.
    """
    async with run_server(ServerConfig(host=network.own_address, port=0)) as nats:
        with ExitStack() as stack:
            _start(stack, [*MAFALDA, "allocator", "--nats-url", nats.url, "--policy", "spread", *allocator])
            agents = {}
            for name, host in network.hosts.items():
                own = ["agent", "--nats-url", nats.url, "--server", name, "--workers", str(workers)]
                own += ["--listen-ip", host.address, "--drain-grace", "0"]
                own += ["--region", regions[name]] if regions else []
                agents[name] = _start(stack, host.command(*MAFALDA, *own))
            for agent in agents.values():
                assert agent.stdout is not None
                assert agent.stdout.readline() == "ready\n"
            yield HostFleet(network, nats.url, agents)


def _start(stack: ExitStack, command: Sequence[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*command, "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
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
