"""``mafalda allocator``: run one allocator until a signal."""

from __future__ import annotations

import click

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.placement.policy import POLICIES
from mafalda.allocator.runner.runner import run_allocator
from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.telemetry.metrics import metering
from mafalda.telemetry.tracing import tracing


@click.command()
@nats_option
@stop_with_stdin_option
@click.option(
    "--policy", default="pack", show_default=True, type=click.Choice(sorted(POLICIES)), help="How workers are chosen."
)
@click.option("--name", default="allocator", show_default=True, help="Name of this allocator in logs and traces.")
def allocator(nats_url: str | None, policy: str, name: str, stop_with_stdin: bool) -> None:
    """Run an allocator. It is stateless: any number may run, and each may be stopped at any time."""
    service = "mafalda-allocator"
    with tracing(service, instance=name), metering(service, instance=name):
        run(_allocator(nats_url, AllocatorConfig(name=name, policy=policy), stop_with_stdin), log_level=None)


async def _allocator(nats_url: str | None, config: AllocatorConfig, stop_with_stdin: bool) -> None:
    async with connect(bus_config(nats_url, name=config.name)) as bus:
        await serve_until_stopped(
            lambda ready: run_allocator(bus, config, ready=ready), stop_with_stdin=stop_with_stdin
        )
