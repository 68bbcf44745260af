"""``mafalda grants``: change what a peer may do while it is connected."""

from __future__ import annotations

import click

from mafalda.auth.requests import ask_auth_service
from mafalda.bus.connection.connection import open_connection
from mafalda.cli.auth_requests import as_request
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import nats_option
from mafalda.cli.running import run
from mafalda.contract.grants import ChangeRequest
from mafalda.contract.permissions import GRANT_REQUEST


@click.command()
@nats_option
@click.argument("room")
@click.argument("peer")
@click.option("--publish", help="Kinds that it may produce, such as audio,video; '' for none.")
@click.option("--subscribe/--no-subscribe", default=None, help="Whether it may consume.")
@click.option("--data/--no-data", default=None, help="Whether it may open data producers.")
@click.option("--roster/--no-roster", default=None, help="Whether it may read the room's events.")
@click.option("--moderate/--no-moderate", default=None, help="Whether it may moderate.")
def grants(nats_url: str | None, room: str, peer: str, publish: str | None, **others: bool | None) -> None:
    """Let PEER of ROOM do this instead of what its tokens say that were issued until now.

    What is not given is as in the token, whatever was changed before. Its connections end and come back with the new
    permissions, and what it publishes or receives without permission is closed. Needs the nkey of the operator or of an
    application.
    """
    kinds = None if publish is None else [kind for kind in publish.split(",") if kind]
    run(_grants(nats_url, as_request(ChangeRequest, room=room, peer=peer, grants={"publish": kinds, **others})))


async def _grants(nats_url: str | None, request: bytes) -> None:
    async with open_connection(bus_config(nats_url, name="mafalda cli")) as connection:
        report = await ask_auth_service(connection, GRANT_REQUEST, request)
    click.echo(f"changed; {report['connections']} connections have to come back")
