"""Hosts as network namespaces: NATS with allocators on one, an agent on each of the others, and links that can be cut.

All are ports of one bridge, in a namespace of its own; the test itself is another port. Needs root and ``ip``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mafalda.bus.nats.server import default_conf, find_binary
from tests.e2e.conftest import environment

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
NATS_HOST = "nats"


def unavailable() -> str | None:
    """Why there can be no namespaces here; ``None``: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None if shutil.which("ip") else "network namespaces need `ip` (Debian: iproute2)"


@dataclass(slots=True)
class Hosts:
    """Running hosts, by name."""

    prefix: str
    nats_url: str
    cut_off: set[str] = field(default_factory=set)

    def namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    @asynccontextmanager
    async def cut(self, host: str) -> AsyncIterator[None]:
        """Nothing goes to or from a host while the block runs."""
        port = _port(self.prefix, host)
        await _ip("-n", self.namespace("hub"), "link", "set", port, "nomaster")
        try:
            yield
        finally:
            await _ip("-n", self.namespace("hub"), "link", "set", port, "master", "br0")


@asynccontextmanager
async def open_hosts(
    folder: Path, *agents: str, workers: int = 1, clocks: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Hosts]:
    """A fleet on hosts of its own: nats-server and two allocators on one, and each agent on another.

    Args:
        folder: For the log, its store, and the clip.
        agents: Their hosts and server ids.
        workers: Of each agent.
        clocks: By how much the clocks of agents and allocators are off, as for ``faketime``: ``+1h``.
    """
    pid = os.getpid()
    prefix, subnet = f"mf{pid}", f"10.{100 + pid % 100}.{pid // 100 % 250}"
    addresses = {NATS_HOST: f"{subnet}.1", **{agent: f"{subnet}.{11 + index}" for index, agent in enumerate(agents)}}
    hosts = Hosts(prefix, f"nats://{addresses[NATS_HOST]}:4222")
    async with AsyncExitStack() as stack:
        await _make_hub(hosts, f"{subnet}.254", stack)
        for name, address in addresses.items():
            await _make_host(hosts, name, address, stack)
        server = [str(find_binary()), "-c", str(default_conf()), "-a", addresses[NATS_HOST], "-p", "4222"]
        log = stack.enter_context((folder / "hosts.log").open("wb"))
        running = _Processes(hosts, log.fileno(), environment(folder), stack)
        await running.start(NATS_HOST, *server, "-sd", str(folder / "store"), says_ready=False)
        mafalda = [sys.executable, "-m", "mafalda"]
        for number in (1, 2):
            name = f"allocator-{number}"
            allocator = [*_with_clock(clocks.get(name)), *mafalda, "allocator", "--name", name]
            await running.start(NATS_HOST, *allocator, "--policy", "spread")
        for agent in agents:
            options = ["--server", agent, "--workers", str(workers), "--listen-ip", addresses[agent]]
            command = [*_with_clock(clocks.get(agent)), *mafalda, "agent", *options]
            await running.start(agent, *command, "--drain-grace", "0")
        yield hosts


def _with_clock(offset: str | None) -> list[str]:
    """What to put in front of a command whose wall clock is to be off. The dynamic linker fills in ``$LIB``."""
    library = "/usr/$LIB/faketime/libfaketime.so.1"  # by itself: the command ``faketime`` is a parent that waits
    settings = [f"LD_PRELOAD={library}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    return ["env", *settings] if offset else []


class _Processes:
    """Starts processes on hosts, and stops them with the stack."""

    def __init__(self, hosts: Hosts, log: int, own: dict[str, str], stack: AsyncExitStack) -> None:
        self._hosts = hosts
        self._log = log
        self._environment = {**own, "MAFALDA_NATS_URL": hosts.nats_url}
        self._stack = stack

    async def start(self, host: str, *command: str, says_ready: bool = True) -> None:
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self._hosts.namespace(host), *command),
            *(["--stop-with-stdin"] if says_ready else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if says_ready else self._log,
            stderr=self._log,
            env=self._environment,
        )
        self._stack.push_async_callback(_stop, process)
        if says_ready:
            assert process.stdout is not None
            async with asyncio.timeout(START_TIMEOUT_S):
                assert (await process.stdout.readline()).strip() == b"ready", f"{command} did not start"


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _make_hub(hosts: Hosts, address: str, stack: AsyncExitStack) -> None:
    """The bridge, and the test's own port."""
    hub, own = hosts.namespace("hub"), _port(hosts.prefix, "test")
    await _namespace(hub, stack)
    await _ip("-n", hub, "link", "add", "br0", "type", "bridge")
    await _ip("-n", hub, "link", "set", "br0", "up")
    await _ip("link", "add", own, "type", "veth", "peer", "name", f"{own}h", "netns", hub)
    stack.push_async_callback(_quietly, "link", "del", own)
    await _ip("-n", hub, "link", "set", f"{own}h", "master", "br0", "up")
    await _ip("addr", "add", f"{address}/24", "dev", own)
    await _ip("link", "set", own, "up")


async def _make_host(hosts: Hosts, name: str, address: str, stack: AsyncExitStack) -> None:
    hub, host, port = hosts.namespace("hub"), hosts.namespace(name), _port(hosts.prefix, name)
    await _namespace(host, stack)
    await _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
    await _ip("-n", hub, "link", "set", port, "master", "br0", "up")
    await _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
    await _ip("-n", host, "link", "set", "eth0", "up")
    await _ip("-n", host, "link", "set", "lo", "up")


async def _namespace(name: str, stack: AsyncExitStack) -> None:
    await _ip("netns", "add", name)
    stack.push_async_callback(_quietly, "netns", "del", name)


def _port(prefix: str, name: str) -> str:
    """The name of a host's port; the kernel takes 15 characters."""
    return f"{prefix}{name[:1]}{name[-1:]}"


async def _ip(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, f"ip {' '.join(arguments)}: {errors.decode()}"


async def _quietly(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", *arguments, stderr=asyncio.subprocess.DEVNULL)
    await process.wait()
