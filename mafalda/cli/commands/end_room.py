"""``mafalda end-room``: let every peer of a room leave."""

from __future__ import annotations

import asyncio

import click

from mafalda.bus.compose import compose
from mafalda.cli.connecting import open_bus
from mafalda.cli.options import nats_option
from mafalda.cli.running import run
from mafalda.contract import subjects
from mafalda.contract.messages.intents import EndRoom
from mafalda.contract.messages.results import Done
from mafalda.contract.reading import read_message
from mafalda.errors import DeadlineExceeded
from mafalda.session.requests import as_expected

SENDER = "operator"
TIMEOUT_S = 15.0


@click.command("end-room")
@nats_option
@click.argument("room")
def end_room(nats_url: str | None, room: str) -> None:
    """Let every peer leave that has joined ROOM. Who joins later opens it again."""
    run(_end_room(nats_url, room))


async def _end_room(nats_url: str | None, room: str) -> None:
    subject = subjects.intent(room, SENDER, EndRoom.action)
    intent = compose(EndRoom(), subject=subject, source="/mafalda/cli")
    async with (
        open_bus(nats_url, stored=False) as bus,
        bus.follow(subjects.result(room, SENDER, EndRoom.action)) as follower,
    ):
        await bus.append(subject, intent)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async for delivery in follower:
                    _, message = read_message(delivery.subject, delivery.data)
                    if message.causationid == intent.id:
                        as_expected(message.data, Done)
                        break
        except TimeoutError:
            raise DeadlineExceeded("no allocator answered", room=room) from None
    click.echo(f"{room} is ended")
