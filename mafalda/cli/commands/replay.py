"""``mafalda replay``: compute the state at any time from the log, or compare it with the fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import click

from mafalda.cli.connecting import open_bus
from mafalda.cli.history import open_history
from mafalda.cli.options import (
    Moment,
    archive_option,
    deadline_option,
    json_option,
    nats_option,
    print_json,
    store_option,
)
from mafalda.cli.running import run
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import Record, read_lines
from mafalda.monitor.replay import replay as rebuild
from mafalda.monitor.verify import verify as compare_and_audit
from mafalda.projection.state import State


@click.command()
@nats_option
@store_option
@archive_option
@click.option("--at", type=Moment(), help="The state at this time: RFC 3339, or a span such as 15m.")
@click.option("--seq", type=click.IntRange(0), help="The state at this sequence of the log.")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this exported log instead of NATS.",
)
@click.option("--verify", is_flag=True, help="Compare with the workers' objects and audit; exit code 1 if they differ.")
@deadline_option
@json_option
def replay(
    nats_url: str | None,
    store: Path | None,
    archive: str | None,
    at: datetime | None,
    seq: int | None,
    file: Path | None,
    verify: bool,
    deadline_s: float,
    as_json: bool,
) -> None:
    """Compute the state from the log in NATS, or from a file that `mafalda log --json` wrote."""
    if verify and (at or seq is not None or file or store):
        raise click.UsageError("--verify compares with now; it goes with no --at, --seq, --file or --store")
    if verify:
        run(_verify(nats_url, deadline_s, as_json))
    elif file:
        run(_replay_file(file, at, seq, as_json))
    else:
        run(_replay(nats_url, store, archive, at, seq, as_json))


async def _replay(
    nats_url: str | None,
    store: Path | None,
    archive: str | None,
    at: datetime | None,
    seq: int | None,
    as_json: bool,
) -> None:
    async with open_history(nats_url, store, archive) as history:
        state = await history.state_before(seq=seq, at=at)
        entries = history.read(*LOG_SUBJECTS, after_seq=state.seq, up_to_seq=seq, whole=True)
        _print(await rebuild(entries, state=state, seq=seq, at=at), as_json)


async def _replay_file(file: Path, at: datetime | None, seq: int | None, as_json: bool) -> None:
    with file.open("rb") as lines:
        _print(await rebuild(_entries(read_lines(lines)), seq=seq, at=at), as_json)


async def _entries(records: Iterator[Record]) -> AsyncIterator[Record]:
    for entry in records:
        yield entry


async def _verify(nats_url: str | None, deadline_s: float, as_json: bool) -> int:
    async with open_bus(nats_url) as bus:
        verdict = await compare_and_audit(bus, deadline_s=deadline_s)
    state = verdict.state
    if as_json:
        findings = [finding.to_json_dict() for finding in verdict.findings]
        print_json({"ok": verdict.ok, "seq": state.seq, "differences": verdict.differences, "findings": findings})
        return 0 if verdict.ok else 1
    for difference in verdict.differences:
        click.echo(difference)
    for finding in verdict.findings:
        click.echo(f"{finding.code}: {finding.what}")
    servers = sum(server.status in ("up", "draining") for server in state.servers.values())
    said = "equal to what the workers have"
    if not verdict.ok:
        said = (
            f"{len(verdict.differences)} differences, {len(verdict.findings)} findings (`mafalda audit` explains them)"
        )
    click.echo(f"as of {state.seq}: {len(state.rooms)} rooms, {servers} servers up: {said}")
    return 0 if verdict.ok else 1


def _print(state: State, as_json: bool) -> None:
    if as_json:
        print_json(state.to_json_dict(), indent=True)
        return
    click.echo(f"as of sequence {state.seq}")
    for key, server in sorted(state.servers.items()):
        click.echo(f"server {key}: {server.status}, workers {', '.join(sorted(server.workers)) or 'none'}")
    for key, room in sorted(state.rooms.items()):
        click.echo(f"room {key}:")
        for _, peer in sorted(room.peers.items()):
            produced = sorted(p.producer for p in room.producers.values() if p.peer == peer.peer)
            click.echo(
                f"  peer {peer.peer} on {peer.place.worker} (generation {peer.generation}, {peer.status}):"
                f" produces {', '.join(produced) or 'nothing'}, consumes {len(peer.consumers)}"
            )
        for relay in room.relays.values():
            click.echo(f"  relay {relay.producer}: {relay.source.worker} -> {relay.target.worker} ({relay.status})")
