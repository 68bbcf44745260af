"""Options that several commands share, and how their results are printed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"


def nats_option(command: F) -> F:
    """``--nats-url``, or ``MAFALDA_NATS_URL``, or nothing."""
    return click.option(
        "--nats-url",
        envvar="MAFALDA_NATS_URL",
        metavar="URL",
        callback=lambda _context, _option, value: value or None,
        help="The NATS of the fleet; several, separated by commas. [env: MAFALDA_NATS_URL]",
    )(command)


def store_option(command: F) -> F:
    """``--store``: read what an embedded nats-server left behind, whoever else is running."""
    return click.option(
        "--store",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Read the log that an embedded nats-server, now stopped, left in this folder.",
    )(command)


def json_option(command: F) -> F:
    """``--json``: for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def page_options(command: F) -> F:
    """``--page`` and ``--web-port``: whether and where the room page is served."""
    on = click.option("--page/--no-page", default=True, show_default=True, help="Serve the room page, on loopback.")
    port = click.option(
        "--web-port",
        type=click.IntRange(0, 65535),
        help="Of the room page; 0 takes a free one. [default: 8080, or a free one if that is taken]",
    )
    return on(port(command))


def stop_with_stdin_option(command: F) -> F:
    """For components that a supervisor started: end when the supervisor is gone, whatever became of it."""
    return click.option("--stop-with-stdin", is_flag=True, hidden=True)(command)


def print_json(value: Any, *, indent: bool = False) -> None:
    """Print one JSON document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0))


class Moment(click.ParamType[datetime]):
    """A time: RFC 3339, or a span before now such as ``90s``, ``15m``, ``2h``, ``1d``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(value[-1:])
        if unit and value[:-1].replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(datetime.now(UTC).timestamp() - float(value[:-1]) * unit, UTC)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither an RFC 3339 time nor a span such as 15m", param, ctx)
        return moment if moment.tzinfo else moment.astimezone()
