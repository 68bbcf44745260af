"""``mafalda token``: mint and revoke tokens of participants."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import orjson
from pydantic import ValidationError

from mafalda.auth.keys import KeyFolder
from mafalda.auth.tokens import TokenKeys
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import LimitsType, keys_option, nats_option
from mafalda.cli.running import run
from mafalda.contract.grants import Grants
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import BusUnavailable, MafaldaError

REVOKE_TIMEOUT_S = 15.0
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Life(click.ParamType[int]):
    """A time span in seconds, or such as ``90s``, ``15m``, ``2h`` or ``1d``."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS_S else (text, "s")
        if not number.isdecimal():
            self.fail(f"{value!r} is no span such as 15m", param, ctx)
        return int(number) * _UNITS_S[unit]


@click.group()
def token() -> None:
    """Mint or revoke a participant's token."""


@token.command()
@keys_option
@click.option("--room", "rooms", multiple=True, required=True, help="A room in which the peer may be; repeatable.")
@click.option("--peer", required=True, help="The peer's id.")
@click.option("--publish", default="audio,video", show_default=True, help="Kinds that it may produce; '' for none.")
@click.option("--no-subscribe", is_flag=True, help="It may not consume.")
@click.option("--no-data", is_flag=True, help="It may not open data producers.")
@click.option("--no-roster", is_flag=True, help="It may not read the room's events.")
@click.option("--moderate", is_flag=True, help="It may remove peers, and pause and close their producers.")
@click.option("--audience", is_flag=True, help="It may join as audience only, until a moderator promotes it.")
@click.option(
    "--limits",
    type=LimitsType(),
    metavar="NAME=VALUE,...",
    help="Stricter limits than the fleet's (docs/operating.md).",
)
@click.option("--life", default="2h", show_default=True, type=Life(), help="How long it is valid, at most 30d.")
@click.option("--kid", help="Sign with this key of tokens.json. [default: the first that can]")
def mint(keys: Path, rooms: tuple[str, ...], life: int, kid: str | None, **options: Any) -> None:
    """Print a token."""
    try:
        grants = Grants(
            rooms=list(rooms),
            peer=options["peer"],
            publish=[kind for kind in options["publish"].split(",") if kind],
            subscribe=not options["no_subscribe"],
            data=not options["no_data"],
            roster=not options["no_roster"],
            moderate=options["moderate"],
            audience=options["audience"],
            limits=options["limits"],
        )
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise click.UsageError("; ".join(problems)) from None
    try:
        text = TokenKeys.read(KeyFolder(keys).tokens).mint(grants, life_s=life, now=int(time.time()), kid=kid)
    except MafaldaError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(1)
    click.echo(text)


@token.command()
@nats_option
@click.argument("text", metavar="TOKEN")
def revoke(nats_url: str | None, text: str) -> None:
    """Refuse TOKEN from now on, end its connections, and remove its peer. Needs the operator's nkey.

    With '-' the token is read from standard input.
    """
    run(_revoke(nats_url, sys.stdin.read().strip() if text == "-" else text))


async def _revoke(nats_url: str | None, text: str) -> int:
    async with open_connection(bus_config(nats_url, name="mafalda cli")) as connection:
        try:
            answer = await connection.request(REVOKE_REQUEST, text.encode(), timeout_s=REVOKE_TIMEOUT_S)
        except Unanswered as error:
            raise BusUnavailable("no auth service answered", reason=error.reason) from None
    report = orjson.loads(answer.data)
    if refusal := report.get("error"):
        click.echo(f"{refusal['code']}: {refusal['message']}", err=True)
        return 1
    click.echo(f"revoked; {report['connections']} connections ended")
    return 0
