"""Options that several commands share, and the output of results."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from pydantic import ValidationError

from mafalda.allocator.core.placement.policy import POLICIES
from mafalda.contract.limits import PeerLimits
from mafalda.monitor.audit.finding import DEADLINE_S

F = TypeVar("F", bound=Callable[..., Any])


#: Where ``--nkey-file`` is found in click's context.
NKEY_FILE = "mafalda.nkey_file"


def nats_option(command: F) -> F:
    """``--nats-url`` or the environment variable ``MAFALDA_NATS_URL``; ``None`` without either. And ``--nkey-file``."""
    command = click.option(
        "--nkey-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        expose_value=False,
        callback=lambda context, _option, value: context.meta.update({NKEY_FILE: value}),
        help="File with the nkey seed of this role (`mafalda keys init`). [env: MAFALDA_NKEY_FILE, MAFALDA_NKEY]",
    )(command)
    return click.option(
        "--nats-url",
        envvar="MAFALDA_NATS_URL",
        metavar="URL",
        callback=lambda _context, _option, value: value or None,
        help="URLs of the fleet's NATS servers, separated by commas. [env: MAFALDA_NATS_URL]",
    )(command)


def keys_option(command: F) -> F:
    """``--keys`` or the environment variable ``MAFALDA_KEYS``: the folder that ``mafalda keys init`` made."""
    return click.option(
        "--keys",
        envvar="MAFALDA_KEYS",
        required=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of `mafalda keys init`. [env: MAFALDA_KEYS]",
    )(command)


def store_option(command: F) -> F:
    """``--store``: read the log that an embedded nats-server left in a folder, even if another NATS is running."""
    return click.option(
        "--store",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Read the log in this store folder of an embedded nats-server that is not running.",
    )(command)


def archive_option(command: F) -> F:
    """``--archive`` or the environment variable ``MAFALDA_ARCHIVE``: where older entries than the log's are."""
    return click.option(
        "--archive",
        envvar="MAFALDA_ARCHIVE",
        metavar="URL",
        help="Read what `mafalda archive` wrote there first, then the log. [env: MAFALDA_ARCHIVE]",
    )(command)


class ListenAddress(click.ParamType[tuple[str, int]]):
    """``HOST:PORT`` or ``PORT``, on which a component listens; without a host on loopback."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or int(port) > 65_535:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def metrics_option(command: F) -> F:
    """``--metrics`` or the environment variable ``MAFALDA_METRICS``: where Prometheus finds a component's metrics."""
    return click.option(
        "--metrics",
        "metrics_listen",
        envvar="MAFALDA_METRICS",
        type=ListenAddress(),
        metavar="[HOST:]PORT",
        help="Serve metrics for Prometheus at /metrics there, such as 0.0.0.0:9464. [env: MAFALDA_METRICS]",
    )(command)


class LimitsType(click.ParamType[PeerLimits]):
    """``NAME=VALUE,NAME=VALUE``: limits of a peer. ``none`` as value: no limit."""

    name = "limits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerLimits:
        if isinstance(value, PeerLimits):
            return value
        given: dict[str, float | None] = {}
        for part in filter(None, value.split(",")):
            name, _, number = part.partition("=")
            if name not in PeerLimits.model_fields:
                self.fail(f"{name!r} is none of {', '.join(PeerLimits.model_fields)}", param, ctx)
            try:
                given[name] = None if number == "none" else int(number) if number.isdecimal() else float(number)
            except ValueError:
                self.fail(f"{part!r} is not {name}=NUMBER", param, ctx)
        try:
            return PeerLimits(**given)
        except ValidationError as error:
            self.fail("; ".join(f"{it['loc'][-1]}: {it['msg']}" for it in error.errors()), param, ctx)


def deadline_option(command: F) -> F:
    """``--deadline``: after how many seconds what waits is overdue, for an audit."""
    return click.option(
        "--deadline",
        "deadline_s",
        type=click.FloatRange(min=0),
        default=DEADLINE_S,
        show_default=True,
        metavar="S",
        help="Report what has waited for longer: an intent for its result, a peer for its place.",
    )(command)


def json_option(command: F) -> F:
    """``--json``: print JSON, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def stop_with_stdin_option(command: F) -> F:
    """``--stop-with-stdin``: a component that a supervisor started ends with it, even if the supervisor was killed."""
    return click.option("--stop-with-stdin", is_flag=True, hidden=True)(command)


def local_fleet_options(*, policy: str, policy_help: str, min_allocators: int) -> Callable[[F], F]:
    """The options of a fleet on this machine, by the field names of ``LocalFleetConfig``.

    Args:
        policy: The default policy.
        policy_help: Help text of ``--policy``.
        min_allocators: The least number of allocators that the command can do with.
    """
    options = (
        click.option(
            "--workers",
            default=2,
            show_default=True,
            type=click.IntRange(1, 1024),
            help="Workers of each server.",
        ),
        click.option(
            "--servers",
            default=1,
            show_default=True,
            type=click.IntRange(1, 64),
            help="Agents to run; each acts as a server of its own.",
        ),
        click.option(
            "--allocators",
            default=1,
            show_default=True,
            type=click.IntRange(min_allocators, 16),
            help="Allocators to run.",
        ),
        click.option(
            "--policy", default=policy, show_default=True, type=click.Choice(sorted(POLICIES)), help=policy_help
        ),
        click.option(
            "--nats-servers",
            default=1,
            show_default=True,
            type=click.IntRange(1, 5),
            callback=_odd,
            help="Embedded nats-servers: 3 or 5 are a cluster that keeps a copy of the log on each.",
        ),
        click.option(
            "--nats-host", default="127.0.0.1", show_default=True, help="Listen address of the embedded nats-server."
        ),
        click.option(
            "--nats-port",
            default=4222,
            show_default=True,
            help="Port of the embedded nats-server, of a cluster's first; 0: any free port.",
        ),
        click.option(
            "--open",
            "is_open",
            is_flag=True,
            help="Without keys and tokens: whoever reaches the embedded nats-server owns the fleet.",
        ),
        click.option("--page/--no-page", default=True, show_default=True, help="Serve the room page, on loopback."),
        click.option(
            "--web-port",
            type=click.IntRange(0, 65535),
            help="Port of the room page; 0: any free port. [default: 8080, or a free port if that is taken]",
        ),
        click.option("--monitor/--no-monitor", default=True, show_default=True, help="Serve the monitor, on loopback."),
        click.option(
            "--monitor-port",
            type=click.IntRange(0, 65535),
            help="Port of the monitor; 0: any free port. [default: 8081, or a free port if that is taken]",
        ),
        click.option("--http/--no-http", default=False, show_default=True, help="Serve the HTTP API, on loopback."),
        click.option(
            "--http-port",
            type=click.IntRange(0, 65535),
            help="Port of the HTTP API; 0: any free port. [default: 8082, or a free port if that is taken]",
        ),
        click.option(
            "--archive",
            envvar="MAFALDA_ARCHIVE",
            metavar="URL",
            help="Archive the log to this folder or object store too. [env: MAFALDA_ARCHIVE]",
        ),
        click.option(
            "--store", "store_dir", type=click.Path(path_type=Path), help="Store folder of the embedded nats-server."
        ),
        click.option(
            "--keys",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="With --nats-url: folder of `mafalda keys init`; each component takes the nkey of its role.",
        ),
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def check_fleet_keys(nats_url: str | None, keys: Path | None) -> None:
    """Check the credentials of a command that starts components of several roles.

    Raises:
        click.UsageError: One role's nkey is given, or keys for the embedded nats-server, which has its own.
    """
    if click.get_current_context().meta.get(NKEY_FILE) is not None:
        raise click.UsageError("--nkey-file is the nkey of one role, and a fleet has several: give --keys FOLDER")
    if keys is not None and nats_url is None:
        raise click.UsageError("--keys goes with --nats-url: the embedded nats-server's are in its store folder")


def _odd(_context: click.Context, _option: click.Parameter, value: int) -> int:
    if value % 2 == 0:
        raise click.BadParameter("an even number survives no more failures than the odd number below it: 1, 3 or 5")
    return value


def print_json(value: Any, *, indent: bool = False) -> None:
    """Print one JSON document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0))


_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d)?")


class Moment(click.ParamType[datetime]):
    """A time: RFC 3339, one of the last 24 h (``10:42``), or a span before now: ``90s``, ``15m``, ``2h``, ``1d``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(value[-1:])
        if unit and value[:-1].replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(datetime.now(UTC).timestamp() - float(value[:-1]) * unit, UTC)
        try:
            if _TIME_OF_DAY.fullmatch(value):
                now = datetime.now().astimezone()
                moment = datetime.combine(now.date(), time.fromisoformat(value), now.tzinfo)
                return moment if moment <= now else moment - timedelta(days=1)
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither an RFC 3339 time, nor a time of day, nor a span such as 15m", param, ctx)
        return moment if moment.tzinfo else moment.astimezone()
