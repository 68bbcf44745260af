"""``mafalda doctor``: check this machine and the fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import click
from rich.console import Console

from mafalda.bus.config import DEFAULT_URL
from mafalda.bus.protocol import Bus
from mafalda.cli.connecting import open_bus
from mafalda.cli.options import json_option, nats_option, print_json
from mafalda.cli.running import run
from mafalda.errors import MafaldaError
from mafalda.mediasoup.install import find_worker_bin
from mafalda.monitor.checkup import Finding, check_log_usage, check_machine, check_snapshots
from mafalda.monitor.overview import read_loads, servers_refused
from mafalda.monitor.replay import current_state
from mafalda.monitor.verify import differences
from mafalda.snapshot.retention import archived_seq
from mafalda.snapshot.store import newest_manifest

COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command()
@nats_option
@json_option
def doctor(nats_url: str | None, as_json: bool) -> None:
    """Check what is installed, configured and reachable, and say how to mend what is wrong.

    The exit code is 1 if something does not work.
    """
    run(_doctor(nats_url, as_json))


async def _doctor(nats_url: str | None, as_json: bool) -> int:
    try:
        worker_bin = find_worker_bin()
    except MafaldaError:
        worker_bin = None
    findings = list(check_machine(worker_bin))
    findings += [finding async for finding in _check_fleet(nats_url)]
    healthy = all(finding.health != "failure" for finding in findings)
    if as_json:
        print_json({"ok": healthy, "findings": [finding.to_json_dict() for finding in findings]}, indent=True)
    else:
        console = Console(highlight=False)
        for finding in findings:
            console.print(
                f"[{COLOURS[finding.health]}]{finding.health:<8}[/] {finding.check}: {finding.found}", soft_wrap=True
            )
            if finding.mend:
                console.print(f"         [bold]mend:[/] {finding.mend}", soft_wrap=True)
    return 0 if healthy else 1


async def _check_fleet(nats_url: str | None) -> AsyncIterator[Finding]:
    url = nats_url or DEFAULT_URL
    is_reachable = False
    try:
        async with open_bus(nats_url, stored=False) as bus:
            is_reachable = True
            yield Finding("nats", "ok", f"reachable at {url}, its streams are as declared")
            async for finding in _check_servers(bus):
                yield finding
    except MafaldaError as error:
        if is_reachable:
            yield Finding("fleet", "warning", f"could not be checked: {error}", "try again; see the agents' logs")
        else:
            yield Finding("nats", "warning", f"{url}: {error}", "start one with `mafalda up`, or set MAFALDA_NATS_URL")


async def _check_servers(bus: Bus) -> AsyncIterator[Finding]:
    state = await current_state(bus)
    usage = await bus.log_usage()
    yield check_log_usage(usage, servers_refused(state, await read_loads(bus)))
    newest = await newest_manifest(bus)
    yield check_snapshots(usage, newest.seq if newest else 0, await archived_seq(bus))
    up = sorted(server.server for server in state.servers.values() if server.status in ("up", "draining"))
    if not up:
        yield Finding("fleet", "warning", "no server is up", "start agents with `mafalda agent`")
        return
    yield Finding("fleet", "ok", f"servers up: {', '.join(up)}")
    found = await differences(bus, state)
    if found:
        yield Finding("log", "warning", "; ".join(found[:5]), "if it stays: mafalda replay --verify")
    else:
        yield Finding("log", "ok", f"as of {state.seq} it equals what the workers have")
