"""``mafalda demo``: a clip flows across workers, and viewers check every frame of it."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.demo_peers import DemoPeer, publisher, viewer
from mafalda.cli.demo_table import picture
from mafalda.cli.fleet import FleetConfig, fleet
from mafalda.cli.options import DEFAULT_NATS_URL, json_option, nats_option, page_options, print_json
from mafalda.cli.paths import state_dir
from mafalda.cli.running import run
from mafalda.client.media import ClipSpec, make_clip, open_playback
from mafalda.monitor.live import live_state
from mafalda.projection.state import State
from mafalda.telemetry.tracing import tracing

FIRST_FRAMES_TIMEOUT_S = 30.0
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What to show."""

    fleet: FleetConfig
    attach: bool
    viewers: int
    duration_s: float | None  # None: until Ctrl-C
    as_json: bool


@dataclass(slots=True)
class Stage:
    """The demo while it runs."""

    room_id: str
    clip: ClipSpec
    state: State
    publisher: DemoPeer
    viewers: list[DemoPeer]
    notes: deque[str]

    @property
    def peers(self) -> list[DemoPeer]:
        return [self.publisher, *self.viewers]


@click.command()
@nats_option
@click.option("--once", is_flag=True, help="End by itself; exit 0 only if every viewer saw and heard the clip.")
@click.option("--duration", type=click.FloatRange(1), help="Seconds of watching with --once. [default: 10]")
@click.option("--viewers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Of each server.")
@click.option(
    "--servers", default=1, show_default=True, type=click.IntRange(1, 8), help="Agents, as if each were a server."
)
@click.option("--allocators", default=1, show_default=True, type=click.IntRange(1, 8))
@click.option("--policy", default="spread", show_default=True, help="spread: a relay is always seen.")
@click.option("--nats-port", default=4222, show_default=True, help="Of the embedded nats-server; 0 takes a free one.")
@page_options
@click.option("--store", type=click.Path(path_type=Path), help="Where the embedded nats-server keeps the log.")
@click.option("--attach", is_flag=True, help="Use the fleet that is up (--nats-url) instead of starting one.")
@json_option
def demo(
    nats_url: str | None,
    once: bool,
    duration: float | None,
    viewers: int,
    workers: int,
    servers: int,
    allocators: int,
    policy: str,
    nats_port: int,
    page: bool,
    web_port: int | None,
    store: Path | None,
    attach: bool,
    as_json: bool,
) -> None:
    """Bring a fleet up, let a clip flow across two workers, show it live; Ctrl-C ends it."""
    if (as_json or duration) and not once:
        raise click.UsageError("--json and --duration go with --once")
    fleet_config = FleetConfig(
        workers=workers,
        servers=servers,
        allocators=allocators,
        policy=policy,
        nats_url=nats_url,
        nats_port=nats_port,
        page=page and not once,
        web_port=web_port,
        store_dir=store,
        log_file=state_dir() / "demo.log",
    )
    config = DemoConfig(fleet_config, attach, viewers, (duration or 10.0) if once else None, as_json)
    with tracing("mafalda-demo"):
        run(_demo(config), log_level="error")


async def _demo(config: DemoConfig) -> int:
    notes: deque[str] = deque(maxlen=6)
    say = (lambda text: click.echo(text, err=True)) if config.duration_s else notes.append
    async with AsyncExitStack() as stack:
        url, page_url = await _fleet(config, stack)
        stage = await stack.enter_async_context(_stage(url, config.viewers, notes, say))
        if config.duration_s is None:
            if page_url:
                click.echo(f"join in a browser: {page_url}?room={stage.room_id}")
            await _watch(stage)
            return 0
        found = await _once(stage, config.duration_s)
    if config.as_json:
        print_json(found)
    else:
        _print_outcome(found)
    return 0 if found["ok"] else 1


async def _fleet(config: DemoConfig, stack: AsyncExitStack) -> tuple[str, str | None]:
    """The fleet's NATS and the address of its room page."""
    if config.attach:
        return config.fleet.nats_url or DEFAULT_NATS_URL, None
    if config.fleet.log_file:
        config.fleet.log_file.parent.mkdir(parents=True, exist_ok=True)
    running = await stack.enter_async_context(fleet(config.fleet, say=lambda text: click.echo(text, err=True)))
    return running.nats_url, running.page_url


@asynccontextmanager
async def _stage(url: str, viewers: int, notes: deque[str], say: Callable[[str], None]) -> AsyncIterator[Stage]:
    clip = ClipSpec()
    path = state_dir() / f"clip-{clip.width}x{clip.height}-{clip.frame_rate}-{clip.duration_s}.webm"
    if not path.exists():
        await asyncio.to_thread(make_clip, path, clip)
    room_id = f"demo-{secrets.token_hex(3)}"
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(bus_config(url, name="demo")))
        live = await stack.enter_async_context(live_state(bus))
        playback = await stack.enter_async_context(open_playback(path, loop=True))
        sender = await stack.enter_async_context(publisher(url, room_id, playback))
        watching = [
            await stack.enter_async_context(viewer(url, room_id, f"viewer-{number}", clip, say))
            for number in range(1, viewers + 1)
        ]
        yield Stage(room_id, clip, live.state, sender, watching, notes)


async def _watch(stage: Stage) -> None:
    with Live(console=Console(), refresh_per_second=4, screen=False) as live:
        while True:
            await asyncio.gather(*(peer.measure() for peer in stage.viewers))
            live.update(picture(stage.state, stage.room_id, stage.peers, stage.notes))
            await asyncio.sleep(REFRESH_S)


async def _once(stage: Stage, duration_s: float) -> dict[str, Any]:
    complaints: list[str] = []
    try:
        async with asyncio.timeout(FIRST_FRAMES_TIMEOUT_S):
            await asyncio.gather(*(peer.probe.wait_for(frames=1, timeout_s=60) for peer in stage.viewers if peer.probe))
    except TimeoutError:
        complaints.append("not every viewer got a frame")
    await asyncio.sleep(duration_s)
    await asyncio.gather(*(peer.measure() for peer in stage.viewers))
    for peer in stage.viewers:
        complaints += [f"{peer.room.peer}: {complaint}" for complaint in peer.complaints(stage.clip)]
    relays = _relays(stage)
    if not relays and len({peer.room.worker for peer in stage.peers}) > 1:
        complaints.append("no relay, though not everyone is on one worker")
    return {
        "ok": not complaints,
        "complaints": complaints,
        "room": stage.room_id,
        "publisher": {
            **_whereabouts(stage.publisher),
            "frames_sent": stage.publisher.video.frames if stage.publisher.video else 0,
        },
        "viewers": [_outcome(peer) for peer in stage.viewers],
        "relays": relays,
    }


def _whereabouts(peer: DemoPeer) -> dict[str, Any]:
    return {
        "peer": peer.room.peer,
        "server": peer.room.server,
        "worker": peer.room.worker,
        "generation": peer.room.generation,
        "join_s": round(peer.join_s, 4),
    }


def _outcome(peer: DemoPeer) -> dict[str, Any]:
    report = peer.probe.report if peer.probe else None
    assert report is not None
    return {
        **_whereabouts(peer),
        "relayed": any(consumer.relayed for consumer in peer.consumers),
        "first_frame_s": round(report.first_frame_s, 4) if report.first_frame_s is not None else None,
        "frames_decoded": report.frames_decoded,
        "frames_wrong": report.frames_wrong,
        "longest_gap_s": round(report.longest_gap_s, 3),
        "tone_hz": round(report.tone_hz, 1) if report.tone_hz is not None else None,
        "packets": peer.packets,
        "bitrate_bps": round(peer.bitrate_bps),
    }


def _relays(stage: Stage) -> list[dict[str, Any]]:
    room = stage.state.rooms.get(stage.room_id)
    return [
        {
            "producer": relay.producer,
            "source": relay.source.to_json_dict(),
            "target": relay.target.to_json_dict(),
            "status": relay.status,
        }
        for relay in (room.relays.values() if room else ())
    ]


def _print_outcome(found: dict[str, Any]) -> None:
    sent = found["publisher"]
    click.echo(f"{sent['peer']} on {sent['worker']} sent {sent['frames_sent']} frames")
    for peer in found["viewers"]:
        where = f"{peer['worker']}{' (relayed)' if peer['relayed'] else ''}"
        seen = f"{peer['frames_decoded']} frames decoded, {peer['frames_wrong']} wrong, {peer['tone_hz']} Hz"
        click.echo(f"{peer['peer']} on {where}: {seen}, first frame after {peer['first_frame_s']} s")
    for complaint in found["complaints"]:
        click.echo(f"wrong: {complaint}")
    click.echo("ok" if found["ok"] else "not ok")
