"""What a packet costs ``mafalda load-test``, next to what it costs the workers that send it, in the same run.

A real fleet of two workers, each component a process of its own; the load test runs in this process.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.figures import Figure
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.report import Report
from mafalda.loadtest.runner import open_load_test


async def measure(quick: bool) -> list[Figure]:
    """An audience of one speaker, and viewers of a camera."""
    viewers, duration_s = (20, 2.0) if quick else (100, 20.0)
    shared = {"viewers": viewers, "duration_s": duration_s, "join_rate": 10.0}
    shapes = {
        "Opus of 60 ms": LoadTestConfig(audio_frame_ms=60, **shared),
        "Opus of 20 ms and VP8 of 1 Mbit/s": LoadTestConfig(video_publishers=1, **shared),
    }
    figures = []
    for what, config in shapes.items():
        report, workers_s = await _run(config)
        packets = report.media.packets_per_s * report.measured_s
        figures.append(
            Figure(
                "load-test",
                f"{viewers} viewers of {what}",
                report.own.cpu_us_per_packet or 0.0,
                "µs of CPU a packet",
                workers_s / packets * 1e6,
                "the workers",
            )
        )
    return figures


async def _run(config: LoadTestConfig) -> tuple[Report, float]:
    """The report, and the CPU seconds of all workers while it measured."""
    with tempfile.TemporaryDirectory(prefix="mafalda-bench-") as name:
        folder = Path(name)
        fleet = LocalFleetConfig(
            workers=2,
            policy="spread",
            nats_port=0,
            page=False,
            store_dir=folder / "nats",
            log_file=folder / "fleet.log",
        )
        async with (
            open_local_fleet(fleet) as running,
            connect(BusConfig(servers=(running.nats_url,))) as bus,
            open_load_test(bus, config, "bench") as test,
            asyncio.TaskGroup() as group,
        ):
            workers = [it for it in psutil.Process().children(recursive=True) if it.name() == "mediasoup-worker"]
            task = group.create_task(test.run(), name="load test")
            await test.measuring.wait()
            before_s = _cpu_s(workers)
            await task
            used_s = _cpu_s(workers) - before_s
            report = test.report()
    if not report.passed:
        raise RuntimeError(f"the load test failed: {report.failures}")
    return report, used_s


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))
