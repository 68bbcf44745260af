"""``mafalda up``: a whole fleet on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from mafalda.cli.fleet import FleetConfig, fleet
from mafalda.cli.options import json_option, nats_option, page_options, print_json
from mafalda.cli.running import run


@click.command()
@nats_option
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 1024), help="Workers of each server.")
@click.option(
    "--servers", default=1, show_default=True, type=click.IntRange(1, 64), help="Agents, as if each were a server."
)
@click.option("--allocators", default=1, show_default=True, type=click.IntRange(0, 16))
@click.option("--policy", default="pack", show_default=True, help="How workers are chosen.")
@click.option("--nats-host", default="127.0.0.1", show_default=True, help="Where the embedded nats-server listens.")
@click.option("--nats-port", default=4222, show_default=True, help="0 takes a free one.")
@page_options
@click.option("--store", type=click.Path(path_type=Path), help="Where the embedded nats-server keeps the log.")
@json_option
def up(
    nats_url: str | None,
    workers: int,
    servers: int,
    allocators: int,
    policy: str,
    nats_host: str,
    nats_port: int,
    page: bool,
    web_port: int | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Bring a whole fleet up on this machine: NATS, allocator, agent, workers.

    Without a NATS URL an embedded nats-server is started. Ctrl-C or SIGTERM stops everything.
    """
    config = FleetConfig(
        workers=workers,
        servers=servers,
        allocators=allocators,
        policy=policy,
        nats_url=nats_url,
        nats_host=nats_host,
        nats_port=nats_port,
        page=page,
        web_port=web_port,
        store_dir=store,
    )
    run(_up(config, as_json), log_level=None)


async def _up(config: FleetConfig, as_json: bool) -> None:
    async with fleet(config, say=lambda text: click.echo(text, err=as_json)) as running:
        if as_json:
            pids = {part.name: part.process.pid for part in running.components if part.process}
            page = {"page_url": running.page_url} if running.page_url else {}
            print_json({"ready": True, "nats_url": running.nats_url, **page, "pids": pids})
        else:
            if running.page_url:
                click.echo(f"room page: {running.page_url}")
            click.echo(f"up: {config.servers} x {config.workers} workers at {running.nats_url}. Ctrl-C stops all.")
        await asyncio.Event().wait()
