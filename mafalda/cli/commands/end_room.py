"""``mafalda end-room``: let every peer of a room leave."""

from __future__ import annotations

import click

from mafalda.cli.connecting import open_bus
from mafalda.cli.options import nats_option
from mafalda.cli.running import run
from mafalda.contract.messages.intents import EndRoom
from mafalda.contract.messages.results import Done
from mafalda.session.one_request import request_once

SENDER = "operator"


@click.command("end-room")
@nats_option
@click.argument("room")
def end_room(nats_url: str | None, room: str) -> None:
    """Let every peer leave that has joined ROOM. Who joins later opens it again."""
    run(_end_room(nats_url, room))


async def _end_room(nats_url: str | None, room: str) -> None:
    async with open_bus(nats_url, stored=False) as bus:
        await request_once(bus, room, SENDER, EndRoom(), Done, source="/mafalda/cli")
    click.echo(f"{room} is ended")
