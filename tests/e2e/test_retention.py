"""A fleet whose log keeps next to nothing: who begins anew begins with a snapshot, and the archive has the past."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.client import connect as connect_client
from tests.e2e.conftest import Up, up
from tests.e2e.watched_clip import publishing, verified, watching

SETTINGS = {
    "MAFALDA_SNAPSHOT_INTERVAL_S": "0.5",
    "MAFALDA_SNAPSHOT_MIN_ENTRIES": "1",
    "MAFALDA_LOG_KEEP_BYTES": "1",
    "MAFALDA_SEGMENT_ENTRIES": "10",
}
WITHIN_S = 60


async def discarded(bus: NatsBus, running: Up, up_to_seq: int) -> None:
    """Make entries until the log's retention has discarded all up to a sequence."""
    number = 0
    async with asyncio.timeout(WITHIN_S), connect_client(running.nats_url) as client:
        while (await bus.log_usage()).first_seq <= up_to_seq:
            number += 1
            async with client.join(f"filler-{number}", "x"):
                pass


@pytest.mark.timeout(180)
async def test_everybody_can_begin_anew_on_a_log_without_its_beginning(state: Path) -> None:
    archive = ("--archive", str(state / "archive"))
    with up(state, "--servers", "2", "--workers", "1", "--policy", "spread", *archive, **SETTINGS) as running:
        async with (
            connect(BusConfig(servers=(running.nats_url,))) as bus,
            publishing(running.nats_url, "lobby", state),
            watching(running.nats_url, "lobby", "first") as first,
        ):
            await first.sees_more()
            await discarded(bus, running, await bus.last_seq())
            await verified(running)
            # The allocator begins anew, and so does an agent: its peers are placed by what the snapshot says.
            os.kill(running.pids["allocator-1"], signal.SIGKILL)
            os.kill(running.pids[f"agent {first.room.server}"], signal.SIGKILL)
            await first.sees_more()
            # A room whose beginning is not in the log any more, on whichever server.
            for name in ("second", "third"):
                async with watching(running.nats_url, "lobby", name) as viewer:
                    await viewer.sees_more()
            await verified(running)
        past = json.loads(running.mafalda("replay", "--seq", "25", "--json", *archive).stdout)
        assert past["seq"] == 25
        assert past["rooms"]["lobby"]["peers"]["publisher"]["status"] == "joined"
        refused = running.mafalda("replay", "--seq", "25", check=False)
        assert refused.returncode == 1
        assert "log-truncated" in refused.stderr
