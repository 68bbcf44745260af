"""``mafalda allocator``: run one allocator until a signal."""

from __future__ import annotations

from typing import Any

import click
from pydantic import ValidationError

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.placement.policy import POLICIES
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import metrics_option, nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.telemetry.metrics import metering
from mafalda.telemetry.tracing import tracing

_DEFAULTS = AllocatorConfig()


@click.command()
@nats_option
@stop_with_stdin_option
@metrics_option
@click.option(
    "--policy", default="pack", show_default=True, type=click.Choice(sorted(POLICIES)), help="How workers are chosen."
)
@click.option("--name", default="allocator", show_default=True, help="Name of this allocator in logs and traces.")
@click.option(
    "--tenant-peers",
    envvar="MAFALDA_TENANT_PEERS",
    type=click.IntRange(1),
    help="The most peers of one tenant at a time (each transport of a drop-in is one); default: any number. "
    "[env: MAFALDA_TENANT_PEERS]",
)
@click.option(
    "--log-keep",
    "log_keep_s",
    envvar="MAFALDA_LOG_KEEP_S",
    type=click.FloatRange(0),
    default=_DEFAULTS.log_keep_s,
    show_default=True,
    help="Seconds for which the log keeps entries that a snapshot covers (and the archive, if there is one); 0: for "
    "ever. [env: MAFALDA_LOG_KEEP_S]",
)
@click.option(
    "--log-keep-bytes",
    envvar="MAFALDA_LOG_KEEP_BYTES",
    type=click.IntRange(0),
    default=_DEFAULTS.log_keep_bytes,
    show_default=True,
    help="Size of the log above which its oldest such entries are discarded; 0: none. [env: MAFALDA_LOG_KEEP_BYTES]",
)
@click.option(
    "--snapshot-interval",
    "snapshot_interval_s",
    envvar="MAFALDA_SNAPSHOT_INTERVAL_S",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULTS.snapshot_interval_s,
    show_default=True,
    help="Seconds between snapshots, if at least --snapshot-min-entries came since the last. "
    "[env: MAFALDA_SNAPSHOT_INTERVAL_S]",
)
@click.option(
    "--room-peers",
    envvar="MAFALDA_ROOM_PEERS",
    type=click.IntRange(1),
    help="Peers of one room at a time. [env: MAFALDA_ROOM_PEERS] [default: any number]",
)
@click.option(
    "--snapshot-min-entries",
    envvar="MAFALDA_SNAPSHOT_MIN_ENTRIES",
    type=click.IntRange(1),
    default=_DEFAULTS.snapshot_min_entries,
    show_default=True,
    help="[env: MAFALDA_SNAPSHOT_MIN_ENTRIES]",
)
def allocator(
    nats_url: str | None,
    name: str,
    stop_with_stdin: bool,
    metrics_listen: tuple[str, int] | None,
    **options: Any,
) -> None:
    """Run an allocator. It is stateless: any number may run, and each may be stopped at any time."""
    service = "mafalda-allocator"
    limits = {key: options.pop(key) or None for key in ("log_keep_s", "log_keep_bytes")}
    try:
        config = AllocatorConfig(name=name, **limits, **options)
    except ValidationError as error:
        raise click.UsageError(str(error)) from None
    with tracing(service, instance=name), metering(service, instance=name, listen=metrics_listen):
        run(_allocator(nats_url, config, stop_with_stdin), log_level=None)


async def _allocator(nats_url: str | None, config: AllocatorConfig, stop_with_stdin: bool) -> None:
    async with connect(bus_config(nats_url, name=config.name, role="allocator")) as bus:
        await serve_until_stopped(
            lambda ready: run_allocator(bus, config, ready=ready), stop_with_stdin=stop_with_stdin
        )
