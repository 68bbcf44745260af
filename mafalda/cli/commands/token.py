"""``mafalda token``: mint and revoke tokens of participants."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from mafalda.auth.keys import KeyFolder
from mafalda.auth.requests import ask_auth_service
from mafalda.auth.tokens import TokenKeys
from mafalda.bus.connection.connection import open_connection
from mafalda.cli.auth_requests import as_request
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import LimitsType, keys_option, nats_option
from mafalda.cli.running import run
from mafalda.contract.grants import ApplicationGrants, Grants, Revocation
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import MafaldaError

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
@click.option("--room", "rooms", multiple=True, help="A room in which the peer may be; repeatable.")
@click.option("--peer", help="The peer's id.")
@click.option("--application", is_flag=True, help="A token for the HTTP API, of the given rooms or of all.")
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
    if not options["application"] and (not rooms or options["peer"] is None):
        raise click.UsageError("give --room and --peer, or --application")
    if options["application"] and options["peer"] is not None:
        raise click.UsageError("a token of an application has no --peer")
    try:
        grants = _application(rooms) if options["application"] else _participant(rooms, options)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise click.UsageError("; ".join(problems)) from None
    try:
        text = TokenKeys.read(KeyFolder(keys).tokens).mint(grants, life_s=life, now=int(time.time()), kid=kid)
    except MafaldaError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(1)
    click.echo(text)


def _application(rooms: tuple[str, ...]) -> ApplicationGrants:
    return ApplicationGrants(application=True, rooms=list(rooms) or None)


def _participant(rooms: tuple[str, ...], options: dict[str, Any]) -> Grants:
    return Grants(
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


@token.command()
@nats_option
@click.argument("text", metavar="[TOKEN]", required=False)
@click.option("--id", "token_id", help="The token with this id, as the log of the auth service or the HTTP API has it.")
@click.option("--room", help="All tokens for this room that were issued until now.")
@click.option("--peer", help="With --room: those for this peer.")
def revoke(nats_url: str | None, text: str | None, token_id: str | None, room: str | None, peer: str | None) -> None:
    """Refuse TOKEN from now on, end its connections, and remove its peer. Or those that the options name.

    Needs the nkey of the operator or of an application. With '-' the token is read from standard input.
    """
    if sum(it is not None for it in (text, token_id, room)) != 1 or (peer is not None and room is None):
        raise click.UsageError("give a token, --id, or --room and maybe --peer")
    if text is not None:
        request = (sys.stdin.read().strip() if text == "-" else text).encode()
    else:
        request = as_request(Revocation, token_id=token_id, room=room, peer=peer)
    run(_revoke(nats_url, request))


async def _revoke(nats_url: str | None, request: bytes) -> int:
    async with open_connection(bus_config(nats_url, name="mafalda cli")) as connection:
        report = await ask_auth_service(connection, REVOKE_REQUEST, request)
    click.echo(f"revoked; {report['connections']} connections ended")
    return 0
