"""``mafalda log``: print the log."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from mafalda.cli.history import History, open_history
from mafalda.cli.options import Moment, archive_option, json_option, nats_option, store_option
from mafalda.cli.running import run
from mafalda.contract.ids import check_id
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record, record
from mafalda.monitor.sentences import sentence


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries to print."""

    room: str | None
    peer: str | None
    since: datetime | None
    until: datetime | None
    after_seq: int
    limit: int | None

    def patterns(self) -> tuple[str, ...]:
        """The narrowest subjects that cover the selection."""
        room = check_id("room", self.room) if self.room else "*"
        if self.peer:
            peer = check_id("peer", self.peer)
            return tuple(f"mafalda.room.{room}.peer.{peer}.{kind}.*" for kind in ("intent", "result", "event"))
        if self.room:
            about = (f"mafalda.room.{room}.peer.*.{kind}.*" for kind in ("intent", "result", "event"))
            return (*about, f"mafalda.room.{room}.event.*", f"mafalda.command.{room}.*.*")
        return LOG_SUBJECTS

    def holds(self, entry: Record) -> bool:
        """Whether an entry is in the selected time; one that cannot be decoded always is."""
        if entry.message is None:
            return True
        time = entry.message.time
        return (self.since is None or time >= self.since) and (self.until is None or time <= self.until)


@click.command()
@nats_option
@store_option
@archive_option
@click.option("--room", help="Only this room, with its commands.")
@click.option("--peer", help="Only this peer's own intents, results and events.")
@click.option("--since", type=Moment(), help="From this time on: RFC 3339, or a span such as 15m.")
@click.option("--until", type=Moment(), help="Up to this time.")
@click.option("--after", "after_seq", default=0, help="Only after this sequence, such as a page's last one.")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many entries.")
@click.option("-f", "--follow", is_flag=True, help="Print new entries as they come.")
@json_option
def log(
    nats_url: str | None,
    store: Path | None,
    archive: str | None,
    room: str | None,
    peer: str | None,
    since: datetime | None,
    until: datetime | None,
    after_seq: int,
    limit: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the log: page, filter or follow it. With --json the output is a file for `mafalda replay --file`."""
    run(_log(nats_url, store, archive, Selection(room, peer, since, until, after_seq, limit), follow, as_json))


async def _log(
    nats_url: str | None,
    store: Path | None,
    archive: str | None,
    selection: Selection,
    follow: bool,
    as_json: bool,
) -> None:
    shown = 0
    async with (
        open_history(nats_url, store, archive) as history,
        aclosing(_entries(history, selection, follow)) as entries,
    ):
        async for entry in entries:
            if not selection.holds(entry):
                continue
            sys.stdout.write((entry.to_json_line().decode() if as_json else line(entry)) + "\n")
            if follow:
                sys.stdout.flush()
            shown += 1
            if shown == selection.limit:
                return


async def _entries(history: History, selection: Selection, follow: bool) -> AsyncGenerator[Record]:
    if not follow:
        async for entry in history.read(*selection.patterns(), after_seq=selection.after_seq, since=selection.since):
            yield entry
        return
    async with history.bus.follow(*selection.patterns(), after_seq=selection.after_seq) as follower:
        async for delivery in follower:
            yield record(delivery)


def line(entry: Record) -> str:
    """One entry as text: sequence, time, kind, room and peer or server, description."""
    time = entry.message.time.astimezone().strftime("%H:%M:%S.%f")[:-3] if entry.message else "--:--:--.---"
    address = entry.address
    who = "?"
    if address:
        who = "/".join(part for part in (address.room, address.peer) if part) or f"server {address.server}"
    kind = address.kind if address else "?"
    return f"{entry.seq:>8} {time} {kind:<7} {who:<28} {sentence(entry)}"
