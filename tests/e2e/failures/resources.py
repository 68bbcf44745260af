"""What the processes of a fleet hold: memory, threads, descriptors, UDP ports; and the tasks of this process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass

import psutil

from tests.e2e.conftest import Up


@dataclass(slots=True)
class Held:
    """Sums over the processes of one role."""

    processes: int = 0
    memory_mb: int = 0
    threads: int = 0
    descriptors: int = 0
    udp_ports: int = 0

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def held(running: Up, *more: int) -> dict[str, Held]:
    """What each role holds now.

    Args:
        running: Its supervisor, allocators, agents and workers.
        more: Processes of nats-servers.
    """
    found: dict[str, Held] = {}
    processes = running.family()
    with suppress(psutil.NoSuchProcess):
        processes += [psutil.Process(pid) for pid in more]
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            _add(found.setdefault(_role(process), Held()), process)
    here = Held(processes=1, threads=len(asyncio.all_tasks()))
    found["tasks of the test"] = here
    return found


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    if process.name().startswith("nats-server"):
        return "nats-server"
    if "mediasoup-worker" in command[0]:
        return "worker"
    return command[3] if len(command) > 3 else process.name()


def _add(total: Held, process: psutil.Process) -> None:
    with process.oneshot():
        total.processes += 1
        total.memory_mb += process.memory_info().rss >> 20
        total.threads += process.num_threads()
        total.descriptors += process.num_fds()
        total.udp_ports += len(process.net_connections(kind="udp"))
