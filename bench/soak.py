"""An hour of mixed load on workers with and without their batch: nothing that they count may differ, or grow.

Both forward the same at the same time. What does not belong here: how fast they are (``media``).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import click
import psutil

from bench.figures import Figure
from bench.media import OPUS, Scene, contenders, staged
from bench.media_load import Stage
from bench.media_sinks import LOOPBACK
from bench.media_streams import video

SCENES = (
    Scene("own sockets", [video(6, 25), OPUS, (video(1, 30), video(3, 30), video(8, 30))], 8, listeners=0),
    Scene("WebRtcServer", [video(6, 25), OPUS], 8, server=True, listeners=0),
    Scene("encrypted pipe", [video(6, 25), OPUS], 4, workers=2, srtp_pipes=True, listeners=0),
)
WARM_UP_S = 10.0  # until simulcast's layers are chosen
STEP_S = 10.0


@dataclass(slots=True)
class Totals:
    """Of one contender and scene."""

    packets: int = 0
    wanted: int = 0
    cpu_s: float = 0
    first_memory_bytes: int = 0
    last_memory_bytes: int = 0


async def measure(quick: bool) -> list[Figure]:
    """An hour; a minute if ``quick``."""
    async with AsyncExitStack() as stack:
        stages: dict[tuple[str, str], Stage] = {}
        for scene in SCENES:
            for contender in contenders():
                made = await stack.enter_async_context(staged(scene, LOOPBACK, contender))
                stages[scene.name, contender.name] = made
        await asyncio.gather(*(made.push(WARM_UP_S) for made in stages.values()))
        totals = {key: Totals(first_memory_bytes=_memory_bytes(made)) for key, made in stages.items()}
        for step in range(6 if quick else 360):
            for key, seen in zip(
                totals, await asyncio.gather(*(it.push(STEP_S) for it in stages.values())), strict=True
            ):
                totals[key].packets += seen.packets
                totals[key].wanted += seen.wanted
                totals[key].cpu_s += seen.cpu_s
            if step % 30 == 29:
                click.echo(f"  {(step + 1) * STEP_S / 60:.0f} min", err=True)
        for key, made in stages.items():
            totals[key].last_memory_bytes = _memory_bytes(made)
        lost = {key: await made.count_lost() for key, made in stages.items()}
    return [figure for scene in SCENES for figure in _figures(scene.name, totals, lost)]


def _figures(scene: str, totals: dict[tuple[str, str], Totals], lost: dict[tuple[str, str], int]) -> list[Figure]:
    (baseline, before), *others = ((name, it) for (of, name), it in totals.items() if of == scene)
    figures = []
    for name, after in others:
        grown = [(it.last_memory_bytes - it.first_memory_bytes) / 1024 for it in (after, before)]
        rows: list[tuple[str, float, float]] = [
            ("packets forwarded", after.packets, before.packets),
            ("not forwarded", after.wanted - after.packets, before.wanted - before.packets),
            ("lost on the way in", lost[scene, name], lost[scene, baseline]),
            ("packets/CPU-s", after.packets / after.cpu_s, before.packets / before.cpu_s),
            ("memory grown, KiB", grown[0], grown[1]),
        ]
        figures += [
            Figure("soak", f"{scene}: {name}: {what}", ours, "", theirs, baseline) for what, ours, theirs in rows
        ]
    return figures


def _memory_bytes(made: Stage) -> int:
    return sum(psutil.Process(worker.pid).memory_info().rss for worker in made.workers)
