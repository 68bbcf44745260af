"""``mafalda drain``: move the peers of a server elsewhere, before it is stopped."""

from __future__ import annotations

import asyncio

import click

from mafalda.cli.connecting import open_bus
from mafalda.cli.options import json_option, nats_option, print_json
from mafalda.cli.running import run
from mafalda.contract.ids import check_id
from mafalda.contract.messages.queries import DrainServer, DrainStatus, QueryDrain
from mafalda.monitor.drain import drain_request

#: Nomad's default for the same. Long calls end by themselves within it.
DEFAULT_DEADLINE_S = 3600.0
_POLL_S = 0.5


@click.command()
@click.argument("server")
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0),
    default=DEFAULT_DEADLINE_S,
    show_default=True,
    metavar="S",
    help="Seconds after which what is left is moved by force: the peers of drop-in applications.",
)
@click.option("--cancel", is_flag=True, help="Make the server eligible for placements again; moved peers stay moved.")
@nats_option
@json_option
def drain(server: str, deadline_s: float, cancel: bool, nats_url: str | None, as_json: bool) -> None:
    """Drain SERVER: no peer is placed there any more, and its peers are moved to other servers, a few at a time.

    The command waits until no peer is left and prints how far it is. Ctrl-C ends the waiting, not the drain. A drained
    server stays ineligible until it is stopped or the drain is cancelled.
    """
    run(_drain(check_id("server", server), deadline_s, cancel, nats_url, as_json))


async def _drain(server: str, deadline_s: float, cancel: bool, nats_url: str | None, as_json: bool) -> int:
    async with open_bus(nats_url, stored=False) as bus:
        if cancel:
            _print(await drain_request(bus, server, DrainServer(draining=False)), as_json)
            return 0
        status = await drain_request(bus, server, DrainServer(deadline_s=deadline_s))
        _print(status, as_json)
        while status.state not in ("drained", "up"):
            await asyncio.sleep(_POLL_S)
            before, status = status, await drain_request(bus, server, QueryDrain())
            if (before.state, before.peers, before.leaving) != (status.state, status.peers, status.leaving):
                _print(status, as_json)
    if status.state == "up":
        click.echo(f"{server}: the drain was cancelled", err=True)
        return 1
    return 0


def _print(status: DrainStatus, as_json: bool) -> None:
    if as_json:
        print_json(status.to_json_dict())
    else:
        click.echo(describe(status))


def describe(status: DrainStatus) -> str:
    """One line for people."""
    match status.state:
        case "up":
            return f"{status.server}: not draining; eligible for placements"
        case "drained":
            return f"{status.server}: drained"
    parts = [f"{status.peers} peer{'' if status.peers == 1 else 's'} left"]
    if status.leaving:
        parts.append(f"{status.leaving} moved and still served here")
    if status.unmovable:
        until = "" if status.deadline_in_s is None else f" in {status.deadline_in_s:.0f} s"
        parts.append(f"{status.unmovable} of a drop-in, which stay until the deadline{until}")
    return f"{status.server}: {'draining' if status.state == 'draining' else 'draining by force'}, {', '.join(parts)}"
