"""``mafalda feed``: room events for programs, with a cursor."""

from __future__ import annotations

import sys

import click
import orjson

from mafalda.cli.connecting import open_bus
from mafalda.cli.options import nats_option
from mafalda.cli.running import run
from mafalda.feed import Cursor, Selection, follow_events


@click.command()
@nats_option
@click.option("--room", help="Only this room's events.")
@click.option("--event", "events", multiple=True, metavar="NAME", help="Only these, such as peer-joined. Repeatable.")
@click.option(
    "--after", "after_seq", type=click.IntRange(0), help="Begin just after this log sequence; 0: at the first."
)
@click.option(
    "--cursor",
    metavar="NAME",
    help="Begin where the last feed of this cursor ended.",
)
@click.option("-n", "--limit", type=click.IntRange(1), help="End after so many events.")
def feed(
    nats_url: str | None,
    room: str | None,
    events: tuple[str, ...],
    after_seq: int | None,
    cursor: str | None,
    limit: int | None,
) -> None:
    """Print the events of rooms as they happen, in log order: one JSON object a line, with its log sequence.

    Without --after and without a cursor that is known it begins now. An event that was printed may be printed again
    after a crash, with the same id.
    """
    run(_feed(nats_url, Selection(room, events), after_seq, cursor, limit))


async def _feed(
    nats_url: str | None, selection: Selection, after_seq: int | None, cursor_name: str | None, limit: int | None
) -> None:
    selection.patterns()  # refused before anything is connected
    async with open_bus(nats_url, stored=False) as bus:
        begin_seq = await bus.last_seq() if after_seq is None else after_seq
        cursor = await Cursor.open(bus, cursor_name, begin_seq=begin_seq) if cursor_name else None
        printed = 0
        async with follow_events(bus, selection, after_seq=cursor.seq if cursor else begin_seq) as follower:
            async for event in follower:
                line = {"seq": event.seq, "room": event.room, "event": orjson.Fragment(event.data)}
                sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
                sys.stdout.flush()
                if cursor:
                    await cursor.save(event.seq)
                printed += 1
                if printed == limit:
                    return
