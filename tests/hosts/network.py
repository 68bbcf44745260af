"""Hosts as network namespaces: each has a link to the test's own namespace, and one to every other host.

What clients send and what hosts send each other so goes over different links, which the kernel counts. A link between
hosts may be a cable of our own that delays and drops packets, since not every kernel has netem.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations, count

from tests.hosts.cable import Cable, open_cable

_numbers = count()


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace.

    Attributes:
        name: Of the host.
        namespace: Of the kernel.
        address: On which it is reached by clients and by other hosts.
    """

    name: str
    namespace: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nothing comes from or goes to elsewhere while the block runs."""
        rules = (("INPUT", "!", "-i", "lo", "-j", "DROP"), ("OUTPUT", "!", "-o", "lo", "-j", "DROP"))
        for rule in rules:
            run(*self.command("iptables", "-I", *rule))
        try:
            yield
        finally:
            for rule in rules:
                run(*self.command("iptables", "-D", *rule))

    def received(self) -> int:
        """Packets from all other hosts together."""
        return self._packets("rx")

    def sent(self) -> int:
        """Packets to all other hosts together."""
        return self._packets("tx")

    def _packets(self, direction: str) -> int:
        shown = json.loads(run("ip", "-n", self.namespace, "-s", "-j", "link", "show"))
        return sum(link["stats64"][direction]["packets"] for link in shown if link["ifname"].startswith("to-"))


@dataclass(frozen=True, slots=True)
class Network:
    """Hosts by name, the address of the test itself, and the cables by the two names of their ends."""

    hosts: Mapping[str, Host]
    own_address: str
    cables: Mapping[tuple[str, str], Cable]


@dataclass(frozen=True, slots=True)
class Lossy:
    """A bad way: each packet is late by ``delay_s``, and UDP packets are dropped with this probability."""

    delay_s: float
    loss_ratio: float


def why_not() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not shutil.which("ip"):
        return "the program `ip` is missing (Debian: iproute2)"
    return "" if os.path.exists("/dev/net/tun") else "there is no /dev/net/tun"


def run(*command: str) -> str:
    """Run a command; its output.

    Raises:
        RuntimeError: It failed.
    """
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout


@contextmanager
def network(names: Sequence[str], lossy: Mapping[tuple[str, str], Lossy] | None = None) -> Iterator[Network]:
    """Make hosts, and links between each two of them.

    Args:
        names: Of the hosts, one letter each.
        lossy: The bad ways, by the two names of their ends in alphabetical order.
    """
    net, prefix = f"10.{100 + os.getpid() % 100}", f"mft{os.getpid() % 100_000}-{next(_numbers)}"
    hosts = {name: Host(name, f"{prefix}{name}", f"{net}.{index}.1") for index, name in enumerate(names, 1)}
    cables: dict[tuple[str, str], Cable] = {}
    with ExitStack() as stack:
        for index, host in enumerate(hosts.values(), 1):
            run("ip", "netns", "add", host.namespace)
            stack.callback(subprocess.run, ["ip", "netns", "delete", host.namespace], check=False)
            _uplink(host, host.namespace, f"{net}.{index}.254")
            # At once: with its namespace it would go some time later, and its address is used again.
            stack.callback(subprocess.run, ["ip", "link", "delete", host.namespace], check=False)
        for number, (one, other) in enumerate(combinations(hosts, 2)):
            near, far = f"{net}.{100 + number}.1", f"{net}.{100 + number}.2"
            if way := (lossy or {}).get((one, other)):
                ends = ((hosts[one].namespace, f"to-{other}"), (hosts[other].namespace, f"to-{one}"))
                cables[one, other] = stack.enter_context(open_cable(*ends, way.delay_s, way.loss_ratio))
            else:
                _veth(hosts[one], hosts[other])
            _end(hosts[one], hosts[other], near, far)
            _end(hosts[other], hosts[one], far, near)
        yield Network(hosts, f"{net}.1.254", cables)


def _uplink(host: Host, device: str, gateway: str) -> None:
    run("ip", "-n", host.namespace, "link", "set", "lo", "up")
    run("ip", "link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", host.namespace)
    run("ip", "addr", "add", f"{gateway}/24", "dev", device)
    run("ip", "link", "set", device, "up")
    run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "uplink")
    run("ip", "-n", host.namespace, "link", "set", "uplink", "up")
    run("ip", "-n", host.namespace, "route", "add", "default", "via", gateway)


def _veth(one: Host, other: Host) -> None:
    peer = ("peer", "name", f"to-{one.name}", "netns", other.namespace)
    run("ip", "-n", one.namespace, "link", "add", f"to-{other.name}", "type", "veth", *peer)


def _end(host: Host, other: Host, own: str, theirs: str) -> None:
    """Give one end of a link its address, and send over it what is for the other host."""
    device = f"to-{other.name}"
    run("ip", "-n", host.namespace, "addr", "add", f"{own}/30", "dev", device)
    run("ip", "-n", host.namespace, "link", "set", device, "up")
    run("ip", "-n", host.namespace, "route", "add", other.address, "via", theirs, "src", host.address)
