"""What Prometheus finds at /metrics of an allocator and an agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import nats
from prometheus_client.parser import text_string_to_metric_families

from mafalda.client import connect
from mafalda.errors import MafaldaError
from tests.e2e.conftest import STOP_TIMEOUT_S, Up
from tests.e2e.dropin.conftest import TIMEOUT_S, eventually
from tests.e2e.watched_clip import publishing, watching

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
QUERIES = (DEPLOY / "grafana" / "mafalda.json", DEPLOY / "prometheus" / "alerts.yml")

Samples = dict[str, dict[str, float]]  # by name, then by what tells them apart


@contextmanager
def component(fleet: Up, *arguments: str) -> Iterator[str]:
    """A further component of the fleet; yields the address of its metrics."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mafalda", *arguments, "--metrics", f"127.0.0.1:{port}"],
        env={**fleet.environment, "MAFALDA_NATS_URL": fleet.nats_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_TIMEOUT_S)
        assert process.stdout
        process.stdout.close()


def scrape(address: str) -> Samples:
    with urlopen(address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found: Samples = {}
        for family in families:
            for sample in family.samples:
                labels = sample.labels
                key = labels.get("mafalda_worker") or labels.get("mafalda_reason") or ""
                found.setdefault(sample.name, {})[key] = sample.value
        return found


async def test_an_allocator_shows_the_fleet(fleet: Up) -> None:
    with component(fleet, "allocator", "--name", "measured") as address:
        async with connect(fleet.nats_url) as client, client.join("counted", "alice"), client.join("counted", "bob"):
            await eventually(lambda: scrape(address)["mafalda_peers"][""] >= 2)
            found = scrape(address)
        assert found["mafalda_rooms"][""] >= 1
        assert found["mafalda_workers"][""] >= 2
        assert found["mafalda_joins_waiting"][""] == 0
        assert found["mafalda_log_seq"][""] > 0


async def test_an_agent_shows_its_workers_while_they_live(fleet: Up) -> None:
    with component(fleet, "agent", "--server", "measured", "--workers", "1", "--drain-grace", "0") as address:
        await eventually(lambda: "mafalda_worker_ready" in scrape(address))
        (worker,) = scrape(address)["mafalda_worker_ready"]
        assert scrape(address)["mafalda_worker_memory_usage_bytes"][worker] > 1_000_000
        (pid,) = (
            known["pid"]
            for server in fleet.json("ls")["servers"]
            for known in server["workers"]
            if known["worker"] == worker
        )
        os.kill(pid, signal.SIGKILL)
        # Before its successor is up there is none at all.
        await eventually(lambda: worker not in scrape(address).get("mafalda_worker_ready", {}))


@asynccontextmanager
async def media_on(fleet: Up, server: str, folder: Path) -> AsyncIterator[None]:
    """A clip that a peer on this server watches; the policy spreads, so one of a few is there."""
    async with publishing(fleet.nats_url, "sampled", folder), AsyncExitStack() as stack:
        for number in range(20):
            viewer = await stack.enter_async_context(watching(fleet.nats_url, "sampled", f"viewer-{number}"))
            if viewer.room.server == server:
                yield
                return
        raise AssertionError(f"none of 20 peers is on {server}")


async def test_every_metric_of_dashboards_and_alerts_exists(fleet: Up, tmp_path: Path) -> None:
    wanted = {name for file in QUERIES for name in re.findall(r"\bmafalda_\w+", file.read_text())}
    assert len(wanted) > 20
    ports = ("--rtc-min-port", "42000", "--rtc-max-port", "42100", "--webrtc", "ports")
    agent = ("agent", "--server", "shown", "--workers", "1", "--drain-grace", "0", *ports)
    async with connect(fleet.nats_url) as client:
        with component(fleet, "allocator", "--name", "shown") as allocator, component(fleet, *agent) as of_agent:
            of_streams = {name for name in wanted if name.startswith("mafalda_rtp_")}
            async with media_on(fleet, "shown", tmp_path):
                await eventually(lambda: of_streams <= names(of_agent))
            await asyncio.to_thread(fleet.mafalda, "drain", "shown")  # its worker is ineligible

            async def missing() -> set[str]:
                """What has not been seen yet. Of the fleet's allocators any one takes an intent."""
                async with client.join("shown", secrets.token_hex(4)) as room:
                    with contextlib.suppress(MafaldaError):
                        await room.consume(f"no-such-producer-{secrets.token_hex(4)}")
                seen = [await asyncio.to_thread(names, address) for address in (allocator, of_agent)]
                return wanted.difference(*seen)

            deadline = asyncio.get_running_loop().time() + TIMEOUT_S
            while left := await missing():
                assert asyncio.get_running_loop().time() < deadline, left
                await publish_garbage(fleet)


def names(address: str) -> set[str]:
    """All samples and labels of a scrape."""
    with urlopen(address, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    return {sample.name for sample in samples} | {label for sample in samples for label in sample.labels}


async def publish_garbage(fleet: Up) -> None:
    """A command that the agent cannot read, and an intent that is refused."""
    raw = await nats.connect(fleet.nats_url)
    await raw.publish("mafalda.command.shown.shown.place-peer", b"{")
    await raw.publish(f"mafalda.room.shown.peer.{secrets.token_hex(4)}.intent.join", b"{}")
    await raw.flush()
    await raw.close()


def test_an_address_that_is_none_is_said_so(fleet: Up) -> None:
    refused = fleet.mafalda("allocator", "--metrics", "nonsense", check=False)
    assert refused.returncode == 2
    assert "HOST:PORT" in refused.stderr
