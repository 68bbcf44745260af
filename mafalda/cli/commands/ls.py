"""``mafalda ls``: list the fleet."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mafalda.bus.protocol import MAKE_ROOM, LogUsage
from mafalda.cli.connecting import open_bus
from mafalda.cli.options import json_option, nats_option, print_json
from mafalda.cli.running import run
from mafalda.monitor.checkup import describe_usage
from mafalda.monitor.overview import overview

#: Width of the output, in columns, when it is not a terminal.
PIPED_WIDTH = 200


@click.command()
@click.argument("room", required=False)
@click.option("--tenant", envvar="MAFALDA_TENANT", help="Only this application's rooms. [env: MAFALDA_TENANT]")
@nats_option
@json_option
def ls(room: str | None, tenant: str | None, nats_url: str | None, as_json: bool) -> None:
    """List servers, workers, rooms, peers and relays as they are now; with ROOM, only this room.

    Rooms are listed by the application that they are of, where it is known.
    """
    run(_ls(room, tenant, nats_url, as_json))


async def _ls(room: str | None, tenant: str | None, nats_url: str | None, as_json: bool) -> None:
    async with open_bus(nats_url) as bus:
        found = await overview(bus, room=room, tenant=tenant)
    if as_json:
        print_json(found, indent=True)
        return
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    if warning := log_warning(found["log"]):
        console.print(f"[red]{warning}[/]", soft_wrap=True)
    console.print(workers_table(found))
    console.print(peers_table(found))
    console.print(relays_table(found))


def log_warning(log: dict[str, Any]) -> str | None:
    """One line if the log is full, else ``None``."""
    if not log["full"]:
        return None
    usage = LogUsage(log["entries"], log["bytes"], log["limitEntries"], log["limitBytes"])
    return f"warning: the log is full ({describe_usage(usage)}) and stores nothing new: {MAKE_ROOM}"


def workers_table(found: dict[str, Any]) -> Table:
    """Servers and their workers, with the last reported load."""
    table = _table(
        "server", "status", "worker", "pid", "cpu", "peers", "producers", "consumers", "relays in/out", "send"
    )
    for server in found["servers"]:
        if not server["workers"]:
            table.add_row(server["server"], server["status"])
        for worker in server["workers"]:
            load = worker["load"] or {}
            table.add_row(
                server["server"],
                "unresponsive" if load.get("state") == "unresponsive" else server["status"],
                worker["worker"],
                str(worker["pid"]),
                f"{load['cpuRatio']:.0%}" if load else "?",
                str(worker["peers"]),
                str(load.get("producers", "?")),
                str(load.get("consumers", "?")),
                f"{load.get('relaysIn', '?')}/{load.get('relaysOut', '?')}",
                bitrate(load.get("sendBps")),
            )
    return table


def peers_table(found: dict[str, Any]) -> Table:
    """Rooms and their peers, by application."""
    rooms = sorted(found["rooms"], key=lambda room: (room["application"] or "", room["room"]))
    named = ("application",) if any(room["application"] for room in rooms) else ()
    table = _table(*named, "room", "peer", "worker", "generation", "status", "producers", "consumers")
    for room in rooms:
        for peer in room["peers"]:
            table.add_row(
                *(room["application"] or "" for _ in named),
                room["room"],
                peer["peer"],
                place(peer),
                str(peer["generation"]),
                peer["status"],
                str(len(peer["producers"])),
                str(peer["consumers"]),
            )
    return table


def relays_table(found: dict[str, Any]) -> Table:
    """Producers that are relayed between workers."""
    table = _table("room", "relayed producer", "from", "to", "status")
    for room in found["rooms"]:
        for relay in room["relays"]:
            table.add_row(
                room["room"], relay["producer"], place(relay["source"]), place(relay["target"]), relay["status"]
            )
    return table


def place(at: dict[str, Any]) -> str:
    """A place as text: the worker id alone if it begins with the server id."""
    worker = str(at["worker"])
    return worker if worker.startswith(f"{at['server']}-") else f"{at['server']}/{worker}"


def bitrate(bps: float | None) -> str:
    """Bits per second as text."""
    if bps is None:
        return "?"
    return f"{bps / 1e6:.1f} Mbit/s" if bps >= 1e6 else f"{bps / 1e3:.0f} kbit/s"


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in ("pid", "cpu", "worker"))
    return table
