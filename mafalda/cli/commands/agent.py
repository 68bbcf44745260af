"""``mafalda agent``: run this server's agent and its workers until a signal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import LimitsType, metrics_option, nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.telemetry.metrics import metering
from mafalda.telemetry.tracing import tracing
from mafalda.workers.agent import run_agent
from mafalda.workers.config import DEFAULT_PEER_LIMITS, AgentConfig


@click.command()
@nats_option
@stop_with_stdin_option
@metrics_option
@click.option("--server", help="This server's id, unique in the fleet. [default: from the host name]")
@click.option("--workers", type=click.IntRange(1, 1024), help="Number of workers. [default: one per core]")
@click.option("--listen-ip", help="IP address on which media is received. [default: 127.0.0.1]")
@click.option("--announced-address", help="Address that others send media to. [default: the listen IP]")
@click.option("--rtc-min-port", type=click.IntRange(1, 65535), help="Lowest RTC port.")
@click.option("--rtc-max-port", type=click.IntRange(1, 65535), help="Highest RTC port.")
@click.option(
    "--webrtc",
    type=click.Choice(["server", "ports"]),
    help="server: one port per worker; ports: one port per transport.",
)
@click.option(
    "--webrtc-server-port",
    type=click.IntRange(1, 65535),
    help="Port of the first worker; the others use the next ones.",
)
@click.option(
    "--drain-grace",
    "drain_grace_s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Seconds to drain after SIGTERM; 0: stop at once. [default: 20]",
)
@click.option(
    "--limits",
    "peer_limits",
    envvar="MAFALDA_LIMITS",
    type=LimitsType(),
    metavar="NAME=VALUE,...",
    help="What each peer may use, beside the defaults (docs/operating.md). [env: MAFALDA_LIMITS]",
)
@click.option(
    "--room-producers",
    envvar="MAFALDA_ROOM_PRODUCERS",
    type=click.IntRange(min=1),
    help="Producers of one room at a time. [env: MAFALDA_ROOM_PRODUCERS] [default: any number]",
)
@click.option(
    "--room-messages",
    "room_messages_per_s",
    envvar="MAFALDA_ROOM_MESSAGES",
    type=click.FloatRange(min=0, min_open=True),
    help="Intents of one room a second. [env: MAFALDA_ROOM_MESSAGES] [default: any number]",
)
@click.option("--region", help="Region of this server, for placements.")
@click.option(
    "--worker-bin",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Path of the mediasoup-worker.",
)
def agent(nats_url: str | None, stop_with_stdin: bool, metrics_listen: tuple[str, int] | None, **given: Any) -> None:
    """Run the agent of this server and its mediasoup-workers.

    At SIGTERM it drains, as by ``mafalda drain``, for at most --drain-grace seconds, then stops. A second SIGTERM, or
    SIGINT, stops it at once.
    """
    if limits := given["peer_limits"]:
        given["peer_limits"] = DEFAULT_PEER_LIMITS.model_copy(update=limits.model_dump(exclude_unset=True))
    try:
        config = AgentConfig(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise click.UsageError("; ".join(problem["msg"] for problem in error.errors())) from None
    service = "mafalda-agent"
    with tracing(service, instance=config.server), metering(service, instance=config.server, listen=metrics_listen):
        leave = asyncio.Event()
        run(_agent(nats_url, config, stop_with_stdin, leave), log_level=None, on_sigterm=leave.set)


async def _agent(nats_url: str | None, config: AgentConfig, stop_with_stdin: bool, leave: asyncio.Event) -> None:
    async with connect(bus_config(nats_url, name=f"agent {config.server}", role="agent", server=config.server)) as bus:
        await serve_until_stopped(
            lambda ready: run_agent(bus, config, ready=ready, leave=leave), stop_with_stdin=stop_with_stdin
        )
