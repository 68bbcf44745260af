"""``mafalda explain``: print why something is where it is."""

from __future__ import annotations

from pathlib import Path

import click

from mafalda.cli.commands.log import line
from mafalda.cli.history import open_history
from mafalda.cli.options import archive_option, json_option, nats_option, print_json, store_option
from mafalda.cli.running import run
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.explain import Decision, History, reasons
from mafalda.monitor.explain import explain as find_history


@click.command()
@click.argument("wanted", metavar="ID")
@nats_option
@store_option
@archive_option
@json_option
def explain(wanted: str, nats_url: str | None, store: Path | None, archive: str | None, as_json: bool) -> None:
    """Explain why something is where it is: the log entries that mention ID, and the reasons of each decision.

    ID is that of a message, a room, a peer, a server, a worker, a producer, a consumer or a transport.
    """
    run(_explain(wanted, nats_url, store, archive, as_json))


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
