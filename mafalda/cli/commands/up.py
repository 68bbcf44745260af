"""``mafalda up``: a whole fleet on this machine, until Ctrl-C."""

from __future__ import annotations

from typing import Any

import click

from mafalda.bus.config import NKEY_FILE_VARIABLE
from mafalda.cli.local_fleet import LocalFleetConfig, open_local_fleet
from mafalda.cli.options import check_fleet_keys, json_option, local_fleet_options, nats_option, print_json
from mafalda.cli.qr_code import print_qr_code
from mafalda.cli.running import keep_ready_file, run


@click.command()
@nats_option
@local_fleet_options(policy="pack", policy_help="How workers are chosen.", min_allocators=0)
@json_option
def up(as_json: bool, **fleet: Any) -> None:
    """Run a whole fleet on this machine: NATS, allocators, agents, workers.

    Without --nats-url an embedded nats-server is started; with --nats-servers 3, a cluster of three. Ctrl-C or SIGTERM
    stops everything.
    """
    check_fleet_keys(fleet["nats_url"], fleet["keys"])
    run(_up(LocalFleetConfig(**fleet), as_json), log_level=None)


async def _up(config: LocalFleetConfig, as_json: bool) -> None:
    async with open_local_fleet(config, progress=lambda text: click.echo(text, err=as_json)) as running:
        if as_json:
            pids = {name: server.pid for name, server in running.nats_servers.items()}
            pids |= {part.name: part.process.pid for part in running.components if part.process}
            page = {"page_url": running.page_url} if running.page_url else {}
            page |= {"page_key": running.page_key} if running.page_key else {}
            page |= {"keys": str(running.keys.folder)} if running.keys else {}
            monitor = {"monitor_url": running.monitor_url} if running.monitor_url else {}
            monitor |= {"http_url": running.http_url} if running.http_url else {}
            print_json({"ready": True, "nats_url": running.nats_url, **page, **monitor, "pids": pids})
        else:
            if link := running.page_link():
                click.echo(f"room page: {link}")
                print_qr_code(link)
            if running.monitor_url:
                click.echo(f"monitor: {running.monitor_url}")
            if running.http_url:
                mint = f"mafalda token mint --application --keys {running.keys.folder}" if running.keys else ""
                click.echo(f"HTTP API: {running.http_url}{f' (its token: {mint})' if mint else ''}")
            if running.keys and not config.nats_url:
                application = running.keys.role("application")
                click.echo(f"closed: programs need a credential, such as {NKEY_FILE_VARIABLE}={application}")
            click.echo(f"up: {config.servers} x {config.workers} workers at {running.nats_url}. Ctrl-C stops all.")
        await keep_ready_file()
