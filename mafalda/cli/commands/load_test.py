"""``mafalda load-test``: publishers and viewers of any number against a running fleet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mafalda.bus.nats.bus import connect
from mafalda.cli.commands.ls import bitrate
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import F, json_option, nats_option, print_json
from mafalda.cli.running import run
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.report import Percentiles, Report
from mafalda.loadtest.runner import LoadTest, open_load_test

_REFRESH_S = 1.0


def _default(name: str) -> Any:
    return LoadTestConfig.model_fields[name].default


def _option(flag: str, name: str, kind: Any, text: str, metavar: str | None = None) -> Callable[[F], F]:
    return click.option(flag, name, type=kind, default=_default(name), show_default=True, metavar=metavar, help=text)


@click.command("load-test")
@_option("--rooms", "rooms", click.IntRange(1), "Rooms; all other numbers are for each room.")
@_option("--room", "room_prefix", str, "Rooms are named by this and a number.", "PREFIX")
@_option("--audio-publishers", "audio_publishers", click.IntRange(0), "Peers that send Opus.")
@_option("--video-publishers", "video_publishers", click.IntRange(0), "Peers that send VP8.")
@_option("--viewers", "viewers", click.IntRange(0), "Peers that receive all that is published in their room.")
@_option("--participants", "participants", click.IntRange(0), "Peers that send Opus and receive the loudest of them.")
@_option("--loudest", "loudest", click.IntRange(1, 64), "So many participants are received by each.")
@_option("--speakers", "speakers", click.IntRange(1, 64), "So many participants are loud at a time.")
@_option("--turn", "turn_s", click.FloatRange(1), "Seconds until other participants speak.", "S")
@click.option("--audience", is_flag=True, help="The viewers join as audience: not announced one by one.")
@_option("--duration", "duration_s", click.FloatRange(0, min_open=True), "Seconds to measure, once all joined.", "S")
@_option("--join-rate", "join_rate", click.FloatRange(0), "Peers that begin to join each second; 0: all at once.", "N")
@_option("--churn", "churn", click.FloatRange(0), "Viewers that leave each second; a new one replaces each.", "N")
@_option("--audio-frame-ms", "audio_frame_ms", int, "Sound in a packet: 10, 20, 40 or 60 ms.", "MS")
@_option("--audio-bitrate", "audio_bitrate_bps", int, "Bits per second.", "BPS")
@_option("--video-bitrate", "video_bitrate_bps", int, "Bits per second.", "BPS")
@_option("--video-fps", "video_fps", float, "Frames per second.", "N")
@click.option("--region", metavar="ID", help="Where all peers say that they are.")
@nats_option
@json_option
def load_test(nats_url: str | None, as_json: bool, **options: Any) -> None:
    """Join rooms with publishers and viewers, send and receive real media, and report what came.

    ICE, DTLS and SRTP are real; nothing is encoded or decoded. The exit code is 1 if a peer failed. Ctrl-C ends the
    test early, with its report.
    """
    try:
        config = LoadTestConfig(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    run(_load_test(config, nats_url, as_json))


async def _load_test(config: LoadTestConfig, nats_url: str | None, as_json: bool) -> int:
    settings = bus_config(nats_url, name="mafalda load-test", role="application")
    settings = settings.model_copy(update={"ensure_streams": False})
    console = Console(highlight=False)
    async with connect(settings) as bus, open_load_test(bus, config, secrets.token_hex(3)) as test:
        try:
            await _run_shown(test, None if as_json else console)
        except asyncio.CancelledError:
            click.echo("ended early", err=True)
        report = test.report()
        if as_json:
            print_json({**report.to_json_dict(), "config": config.model_dump()}, indent=True)
        else:
            console.print(picture(report))
    return 0 if report.passed else 1


async def _run_shown(test: LoadTest, console: Console | None) -> None:
    """Run the test; on a terminal with a live table."""
    if console is None or not console.is_terminal:
        await test.run()
        return
    with Live(picture(test.report()), console=console, auto_refresh=False, transient=True) as live:
        running = asyncio.create_task(test.run(), name="load test")
        try:
            while not running.done():
                await asyncio.wait((running,), timeout=_REFRESH_S)
                live.update(picture(test.report()), refresh=True)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def picture(report: Report) -> Group:
    """The report, for a terminal."""
    media, own, talk = report.media, report.own, report.conversation
    rows = [
        ("publishers", _peers(asdict(report.publishers))),
        ("viewers", _peers(asdict(report.viewers))),
        ("participants", _peers(asdict(report.participants))),
        ("on servers", ", ".join(f"{server} {count}" for server, count in sorted(report.viewers_by_server.items()))),
        ("join", _spread(report.join_ms)),
        ("first packet", _spread(report.first_packet_ms)),
        ("received", f"{media.packets_per_s:,.0f} packets/s, {bitrate(media.bits_per_s)}, {media.streams:,} streams"),
        (
            "packets",
            f"{media.packets_received:,}, lost {media.packets_lost:,} ({media.loss_ratio:.3%}), out of order "
            f"{media.out_of_order:,}, dropped by this machine {media.dropped_here:,}",
        ),
        ("jitter", _spread(media.jitter_ms)),
        ("latency", _spread(media.latency_ms)),
        (
            "speakers",
            f"{talk.turns} turns, {talk.unheard:,} unheard, heard after {_spread(talk.delay_ms)}" if talk.turns else "",
        ),
        ("decrypted", f"{media.decrypted:,} samples, {media.decrypt_failures:,} failed"),
        ("load test", _own(own.cpu_ratio, own.cpu_us_per_packet, own.memory_bytes)),
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value or "-")
    title = Text(f"{report.phase}, {report.elapsed_s:.0f} s; measured {report.measured_s:.1f} s", "bold")
    failures = [Text(f"{count} failed: {reason}", "red") for reason, count in report.failures.items()]
    return Group(title, table, *failures)


def _peers(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _spread(of: Percentiles) -> str:
    if of.p50 is None:
        return "-"
    return f"p50 {of.p50:.1f} ms, p95 {of.p95:.1f}, p99 {of.p99:.1f}, max {of.max:.1f}"


def _own(cpu_ratio: float, cpu_us: float | None, memory_bytes: int) -> str:
    each = f", {cpu_us:.1f} µs a packet" if cpu_us is not None else ""
    return f"{cpu_ratio:.0%} of a core{each}, {memory_bytes / 1e6:.0f} MB"
