"""``mafalda explain``: print why something is where it is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from mafalda.cli.commands.log import line
from mafalda.cli.history import open_history
from mafalda.cli.options import Moment, archive_option, json_option, nats_option, print_json, store_option
from mafalda.cli.running import run
from mafalda.contract.ids import check_id
from mafalda.contract.messages.events import LoadSampled, WorkerDied
from mafalda.contract.subjects import ALL_ROOM_EVENTS, LOG_SUBJECTS
from mafalda.monitor.connection_story import AROUND, ConnectionStory, connection_story, describe
from mafalda.monitor.explain import Decision, History, reasons
from mafalda.monitor.explain import explain as find_history


@click.command()
@click.argument("wanted", metavar="ID")
@nats_option
@store_option
@archive_option
@click.option("--at", type=Moment(), help="ID is a peer: what its connection was like at this time, such as 10:42.")
@json_option
def explain(
    wanted: str, nats_url: str | None, store: Path | None, archive: str | None, at: datetime | None, as_json: bool
) -> None:
    """Explain why something is where it is: the log entries that mention ID, and the reasons of each decision.

    ID is that of a message, a room, a peer, a server, a worker, a producer, a consumer or a transport. With --at: what
    the peer's client measured around that time, if it reports statistics, and its worker's load.
    """
    if at is None:
        run(_explain(wanted, nats_url, store, archive, as_json))
    else:
        run(_explain_connection(wanted, at, nats_url, store, archive, as_json))


async def _explain(wanted: str, nats_url: str | None, store: Path | None, archive: str | None, as_json: bool) -> None:
    async with open_history(nats_url, store, archive) as past:
        history = await find_history(past.read(*LOG_SUBJECTS), wanted)
    if as_json:
        print_json(_json(history), indent=True)
        return
    for entry in history.entries:
        click.echo(line(entry))
        if entry.message and isinstance(entry.message.data, Decision):
            for reason in reasons(entry.message.data.explanation):
                click.echo(f"{'':>22}{reason}")


async def _explain_connection(
    peer: str, at: datetime, nats_url: str | None, store: Path | None, archive: str | None, as_json: bool
) -> None:
    patterns = (
        f"mafalda.room.*.peer.{check_id('peer', peer)}.event.*",
        ALL_ROOM_EVENTS,
        *(f"mafalda.server.*.event.{event.action}" for event in (LoadSampled, WorkerDied)),
    )
    async with open_history(nats_url, store, archive) as past:
        story = await connection_story(past.read(*patterns, since=at - 3 * AROUND), peer, at)
    if as_json:
        print_json(_story_json(story), indent=True)
        return
    for text in describe(story):
        click.echo(text)


def _story_json(story: ConnectionStory) -> dict[str, object]:
    report, before, load = story.report, story.before, story.load
    return {
        "peer": story.peer,
        "at": story.at.isoformat(),
        "lines": list(describe(story)),
        "report": {"time": report.time.isoformat(), "room": report.room, **report.data.to_json_dict()}
        if report
        else None,
        "before": {"time": before.time.isoformat(), **before.data.to_json_dict()} if before else None,
        "load": {"time": load.time.isoformat(), **load.worker.to_json_dict()} if load else None,
    }


def _json(history: History) -> dict[str, object]:
    return {
        "id": history.id,
        "decisions": [
            {"seq": entry.seq, "id": entry.message.id, "command": entry.message.data.to_json_dict()}
            for entry in history.decisions
            if entry.message
        ],
        "refusals": [
            {"seq": entry.seq, "id": entry.message.id, "result": entry.message.data.to_json_dict()}
            for entry in history.refusals
            if entry.message
        ],
        "entries": [entry.seq for entry in history.entries],
    }
