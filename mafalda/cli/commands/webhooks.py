"""``mafalda webhooks``: deliver room events by HTTP, and look after those that could not be delivered."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import SecretStr, ValidationError

from mafalda.bus.nats.bus import connect
from mafalda.bus.protocol import Bus
from mafalda.cli.connecting import bus_config, open_bus
from mafalda.cli.options import json_option, nats_option, print_json, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.errors import NotFound
from mafalda.feed import Cursor, RoomEvent, Selection, read_event
from mafalda.webhooks.bridge import Bridge
from mafalda.webhooks.config import WebhookConfig
from mafalda.webhooks.dead_letters import DeadLetter, DeadLetters
from mafalda.webhooks.endpoint import open_endpoint

_cursor_option = click.option(
    "--cursor",
    default="webhooks",
    show_default=True,
    metavar="NAME",
    help="Where the bridge's position is kept. One bridge each.",
)
_secret_option = click.option(
    "--secret-file",
    envvar="MAFALDA_WEBHOOK_SECRET_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A file with the signing secret, whsec_... [env: MAFALDA_WEBHOOK_SECRET_FILE]",
)


@click.group()
def webhooks() -> None:
    """Deliver room events to an HTTP endpoint, signed as Standard Webhooks defines it."""


@webhooks.command("run")
@click.argument("url")
@_secret_option
@_cursor_option
@click.option("--room", help="Only this room's events.")
@click.option("--event", "events", multiple=True, metavar="NAME", help="Only these, such as peer-joined. Repeatable.")
@click.option("--after", "after_seq", type=click.IntRange(0), help="Where a new cursor begins; the default is now.")
@click.option("--give-up-after", "give_up_after_s", type=float, default=86_400.0, show_default=True, help="Seconds.")
@nats_option
@stop_with_stdin_option
def run_command(
    url: str,
    secret_file: Path,
    cursor: str,
    room: str | None,
    events: tuple[str, ...],
    after_seq: int | None,
    give_up_after_s: float,
    nats_url: str | None,
    stop_with_stdin: bool,
) -> None:
    """Deliver until a signal: each event at least once, those of one room in order."""
    config = _config(url, secret_file, give_up_after_s=give_up_after_s)
    run(_bridge(nats_url, config, Selection(room, events), cursor, after_seq, stop_with_stdin), log_level=None)


async def _bridge(
    nats_url: str | None,
    config: WebhookConfig,
    selection: Selection,
    cursor_name: str,
    after_seq: int | None,
    stop_with_stdin: bool,
) -> None:
    selection.patterns()  # refused before anything is connected
    async with connect(bus_config(nats_url, name="webhooks")) as bus, open_endpoint(config) as endpoint:
        begin_seq = await bus.last_seq() if after_seq is None else after_seq
        cursor = await Cursor.open(bus, cursor_name, begin_seq=begin_seq)
        bridge = Bridge(endpoint, cursor, DeadLetters(bus, cursor_name), config)
        await serve_until_stopped(
            lambda ready: bridge.run(bus, selection, ready=ready), stop_with_stdin=stop_with_stdin
        )


@webhooks.command("dead-letters")
@_cursor_option
@nats_option
@json_option
def dead_letters_command(cursor: str, nats_url: str | None, as_json: bool) -> None:
    """List the events that were given up."""
    run(_list(cursor, nats_url, as_json))


async def _list(cursor: str, nats_url: str | None, as_json: bool) -> None:
    async with open_bus(nats_url) as bus:
        letters = await DeadLetters(bus, cursor).all()
    if as_json:
        print_json([letter.model_dump(mode="json") for letter in letters])
        return
    for letter in letters:
        click.echo(
            f"{letter.seq:>8} {letter.given_up_at:%Y-%m-%d %H:%M:%S} {letter.room} {letter.event}: {letter.reason}"
        )
    click.echo(f"{len(letters)} dead letters")


@webhooks.command("resend")
@click.argument("url")
@_secret_option
@_cursor_option
@nats_option
def resend_command(url: str, secret_file: Path, cursor: str, nats_url: str | None) -> None:
    """Send the events again that were given up, in log order, until one fails; forget those that are taken."""
    run(_resend(_config(url, secret_file), cursor, nats_url))


async def _resend(config: WebhookConfig, cursor: str, nats_url: str | None) -> None:
    async with open_bus(nats_url) as bus, open_endpoint(config) as endpoint:
        letters = DeadLetters(bus, cursor)
        for letter in await letters.all():
            await endpoint.post(await _event_of(bus, letter))
            await letters.remove(letter)
            click.echo(f"{letter.seq:>8} {letter.room} {letter.event}: delivered")


async def _event_of(bus: Bus, letter: DeadLetter) -> RoomEvent:
    patterns = Selection(room=letter.room).patterns()
    async for delivery in bus.read(*patterns, after_seq=letter.seq - 1, up_to_seq=letter.seq):
        if event := read_event(delivery):
            return event
    raise NotFound("the log does not have this event any more", stream_seq=letter.seq, message_id=letter.id)


def _config(url: str, secret_file: Path, **fields: float) -> WebhookConfig:
    secret = SecretStr(secret_file.read_text(encoding="utf-8").strip())
    try:
        return WebhookConfig.model_validate({"url": url, "secret": secret, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
