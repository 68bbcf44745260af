"""``mafalda archive``: copy the log into Parquet files, list them, verify them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mafalda.archive.segment import SegmentInfo
from mafalda.archive.store import open_archive
from mafalda.archive.writer import ArchiveConfig, ArchiveWriter, run_archive
from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config, open_bus
from mafalda.cli.options import json_option, nats_option, print_json, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped

F = TypeVar("F", bound=Callable[..., Any])


def _url_argument(command: F) -> F:
    return click.argument("url", envvar="MAFALDA_ARCHIVE")(command)


@click.group()
def archive() -> None:
    """Copy the log into Parquet files in a folder or an object store.

    URL is a folder, or s3://bucket/path, gs://bucket/path, az://container/path. [env: MAFALDA_ARCHIVE]
    """


@archive.command("run")
@_url_argument
@nats_option
@stop_with_stdin_option
@click.option(
    "--segment-entries",
    envvar="MAFALDA_SEGMENT_ENTRIES",
    type=click.IntRange(1),
    default=20_000,
    show_default=True,
    help="Entries of a segment; one is written as soon as the log has so many more. [env: MAFALDA_SEGMENT_ENTRIES]",
)
@click.option("--once", is_flag=True, help="Archive everything that the log has now, and end.")
@click.option("--accept-gap", is_flag=True, help="Go on although the log has lost what follows the archive's end.")
def run_command(
    url: str, nats_url: str | None, segment_entries: int, once: bool, accept_gap: bool, stop_with_stdin: bool
) -> None:
    """Archive the log until a signal. Several may run: each segment is written once."""
    config = ArchiveConfig(segment_entries=segment_entries, accept_gap=accept_gap)
    if once:
        run(_archive_once(url, nats_url, config))
    else:
        run(_archive(url, nats_url, config, stop_with_stdin), log_level=None)


async def _archive(url: str, nats_url: str | None, config: ArchiveConfig, stop_with_stdin: bool) -> None:
    target = open_archive(url)
    async with connect(bus_config(nats_url, name="archive", role="archive")) as bus:
        await serve_until_stopped(
            lambda ready: run_archive(bus, target, config, ready=ready), stop_with_stdin=stop_with_stdin
        )


async def _archive_once(url: str, nats_url: str | None, config: ArchiveConfig) -> None:
    target = open_archive(url)
    async with open_bus(nats_url) as bus:
        writer = ArchiveWriter(bus, target, config)
        await writer.open()
        written = await writer.write_all()
    click.echo(f"{len(written)} segments written; archived up to sequence {writer.archived}")


@archive.command("ls")
@_url_argument
@json_option
def ls_command(url: str, as_json: bool) -> None:
    """List the segments."""
    run(_list(url, as_json))


async def _list(url: str, as_json: bool) -> None:
    target = open_archive(url)
    _report([target.info(span) for span in target.spans()], as_json)


@archive.command("verify")
@_url_argument
@json_option
def verify_command(url: str, as_json: bool) -> None:
    """Read every segment and compare it with its digest; exit code 1 if the archive is damaged."""
    run(_verify(url, as_json))


async def _verify(url: str, as_json: bool) -> None:
    target = open_archive(url)
    _report([target.verify(span) for span in target.spans()], as_json)


def _report(found: list[SegmentInfo], as_json: bool) -> None:
    if as_json:
        print_json([_json(info) for info in found], indent=True)
        return
    for info in found:
        holes = f", {len(info.missing)} deleted" if info.missing else ""
        until = info.latest.isoformat(timespec="seconds")
        click.echo(f"{info.span.first:>12} to {info.span.last:>12}: {info.entries} entries{holes}, until {until}")
    entries = sum(info.entries for info in found)
    click.echo(f"{len(found)} segments, {entries} entries")


def _json(info: SegmentInfo) -> dict[str, Any]:
    return {
        "file": info.span.name,
        "firstSeq": info.span.first,
        "lastSeq": info.span.last,
        "entries": info.entries,
        "missing": info.missing,
        "latest": info.latest.isoformat(),
        "sha256": info.sha256,
    }
