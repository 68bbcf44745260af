"""A mediasoup library, our own driver, whose worker is the drop-in in front of a fleet."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mafalda.mediasoup import Worker, create_worker
from tests.e2e.conftest import Up

#: Longer than anything that is waited for here may take, in seconds.
TIMEOUT_S = 40
COMMAND = [sys.executable, "-m", "mafalda.dropin"]


def dropin_environment(fleet: Up, **more: str) -> Mapping[str, str]:
    """What an application's environment holds, besides everything else."""
    return {**os.environ, "MAFALDA_NATS_URL": fleet.nats_url, **more}


@asynccontextmanager
async def dropin(fleet: Up, **options: Any) -> AsyncIterator[Worker]:
    """A virtual worker, as a library starts its workers."""
    options.setdefault("environment", dropin_environment(fleet))
    async with create_worker(bin=COMMAND, request_timeout_s=20, **options) as worker:
        yield worker


@pytest.fixture
async def worker(fleet: Up) -> AsyncIterator[Worker]:
    async with dropin(fleet) as worker:
        yield worker


async def eventually(condition: Callable[[], bool], within_s: float = TIMEOUT_S) -> None:
    """Wait for what only commands show."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.2)


def overview(fleet: Up, room: str) -> dict[str, Any]:
    """A virtual router as the fleet sees it: its peers and relays."""
    rooms: list[dict[str, Any]] = fleet.json("ls")["rooms"]
    return next(found for found in rooms if found["room"] == room)


def places(fleet: Up, room: str) -> dict[str, str]:
    """On which real worker each transport of a virtual router is."""
    peers = overview(fleet, room)["peers"]
    return {transport: peer["worker"] for peer in peers for transport in peer["transportIds"]}
