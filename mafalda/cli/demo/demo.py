"""``mafalda demo``: publish a clip on one worker, watch it on others, and check every frame of it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from mafalda.bus.config import CREDENTIAL_VARIABLES, DEFAULT_URL, NKEY_FILE_VARIABLE
from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.demo.peers import DemoPeer, publisher, viewer
from mafalda.cli.demo.table import picture
from mafalda.cli.local_fleet import LocalFleet, LocalFleetConfig, open_local_fleet
from mafalda.cli.options import check_fleet_keys, json_option, local_fleet_options, nats_option, print_json
from mafalda.cli.paths import state_dir
from mafalda.cli.qr_code import print_qr_code
from mafalda.cli.running import run
from mafalda.client.media import ClipSpec, make_clip, open_playback
from mafalda.monitor.live import live_state
from mafalda.projection.state import State
from mafalda.telemetry.tracing import tracing

FIRST_FRAMES_TIMEOUT_S = 30.0
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What to run, and for how long."""

    fleet: LocalFleetConfig
    attach: bool
    viewers: int
    duration_s: float | None  # None: until Ctrl-C
    as_json: bool


@dataclass(slots=True)
class Stage:
    """A running demo."""

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
@click.option("--once", is_flag=True, help="End by itself; exit code 0 only if every viewer received the clip.")
@click.option("--duration", type=click.FloatRange(1), help="With --once: how many seconds to watch. [default: 10]")
@click.option("--viewers", default=2, show_default=True, type=click.IntRange(1, 16), help="Peers that watch.")
@local_fleet_options(
    policy="spread", policy_help="How workers are chosen; with spread a relay is always needed.", min_allocators=1
)
@click.option("--attach", is_flag=True, help="Use the running fleet at --nats-url instead of starting one.")
@json_option
def demo(once: bool, duration: float | None, viewers: int, attach: bool, as_json: bool, **fleet: Any) -> None:
    """Run a fleet in which a clip is published and watched, and show it live; Ctrl-C ends it.

    With two or more workers at least one viewer is on another worker than the publisher, so the clip is relayed.
    """
    if (as_json or duration) and not once:
        raise click.UsageError("--json and --duration go with --once")
    if not attach:
        check_fleet_keys(fleet["nats_url"], fleet["keys"])
    fleet["page"] = fleet["page"] and not once
    fleet["monitor"] = fleet["monitor"] and not once
    fleet_config = LocalFleetConfig(**fleet, page_kills_workers=True, log_file=state_dir() / "demo.log")
    config = DemoConfig(fleet_config, attach, viewers, (duration or 10.0) if once else None, as_json)
    with tracing("mafalda-demo"):
        run(_demo(config), log_level="error")


async def _demo(config: DemoConfig) -> int:
    notes: deque[str] = deque(maxlen=6)
    note = (lambda text: click.echo(text, err=True)) if config.duration_s else notes.append
    async with AsyncExitStack() as stack:
        url, running = await _fleet(config, stack)
        stage = await stack.enter_async_context(_stage(url, config.viewers, notes, note))
        if config.duration_s is None:
            if running and (link := running.page_link(stage.room_id)):
                click.echo(f"join in a browser: {link}")
                print_qr_code(link)
            if running and running.monitor_url:
                click.echo(f"watch the fleet: {running.monitor_url}")
            await _watch(stage)
            return 0
        found = await _once(stage, config.duration_s)
    if config.as_json:
        print_json(found)
    else:
        _print_outcome(found)
    return 0 if found["ok"] else 1


async def _fleet(config: DemoConfig, stack: AsyncExitStack) -> tuple[str, LocalFleet | None]:
    """The URL of the fleet's NATS, and the fleet if it was started here."""
    if config.attach:
        return config.fleet.nats_url or DEFAULT_URL, None
    if config.fleet.log_file:
        config.fleet.log_file.parent.mkdir(parents=True, exist_ok=True)
    running = await stack.enter_async_context(
        open_local_fleet(config.fleet, progress=lambda text: click.echo(text, err=True))
    )
    if running.keys:  # the demo is an application: its peers have no tokens
        for name in CREDENTIAL_VARIABLES:
            os.environ.pop(name, None)
        os.environ[NKEY_FILE_VARIABLE] = str(running.keys.role("application"))
    return running.nats_url, running


@asynccontextmanager
async def _stage(url: str, viewers: int, notes: deque[str], note: Callable[[str], None]) -> AsyncIterator[Stage]:
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
            await stack.enter_async_context(viewer(url, room_id, f"viewer-{number}", clip, note))
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
