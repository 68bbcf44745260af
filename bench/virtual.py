"""A drop-in in front of a fleet of its own, as Python's driver starts its worker.

A real nats-server, allocator, agent and mediasoup-workers, each a process of its own; so is the drop-in.
What does not belong here: what is measured through it (``dropin``, ``media_load``).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.mediasoup import Router, Worker, create_worker
from mafalda.monitor.overview import overview

COMMAND = [sys.executable, "-m", "mafalda.dropin"]


@dataclass(frozen=True, slots=True)
class DropIn:
    """A virtual worker, and what is behind it."""

    worker: Worker
    bus: NatsBus

    async def real_pids(self) -> list[int]:
        """The processes of the real workers."""
        found = await overview(self.bus)
        return [worker["pid"] for server in found["servers"] for worker in server["workers"]]

    async def places(self, router: Router) -> dict[str, str]:
        """On which real worker each transport of a virtual router is."""
        peers = (await self._room(router))["peers"]
        return {transport: peer["worker"] for peer in peers for transport in peer["transportIds"]}

    async def relays(self, router: Router) -> int:
        """How many producers are relayed from one real worker to another."""
        return len((await self._room(router))["relays"])

    async def _room(self, router: Router) -> dict[str, Any]:
        room: dict[str, Any]
        (room,) = (await overview(self.bus, room=router.id))["rooms"]
        return room


@asynccontextmanager
async def dropin(*, workers: int, policy: str) -> AsyncIterator[DropIn]:
    """Start a fleet and a drop-in, and end them with the block."""
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as folder:
        config = LocalFleetConfig(
            workers=workers,
            policy=policy,
            nats_port=0,
            store_dir=Path(folder) / "nats",
            log_file=Path(folder) / "fleet.log",
            page=False,
            monitor=False,  # it follows the log as well; no request waits for it
        )
        async with open_local_fleet(config) as running, connect(BusConfig(servers=(running.nats_url,))) as bus:
            # No forkserver: it would outlive the measurement.
            environment = {**os.environ, "MAFALDA_NATS_URL": running.nats_url, "MAFALDA_WORKER_FORKSERVER": "0"}
            async with create_worker(bin=COMMAND, environment=environment, request_timeout_s=20) as worker:
                yield DropIn(worker, bus)
