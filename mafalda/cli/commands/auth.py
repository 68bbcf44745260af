"""``mafalda auth``: an auth service until a signal."""

from __future__ import annotations

from pathlib import Path

import click

from mafalda.auth.keys import KeyFolder, read_issuer
from mafalda.auth.service import AuthKeys, run_auth_service
from mafalda.auth.tokens import TokenKeys
from mafalda.cli.connecting import bus_config, with_nkey
from mafalda.cli.options import keys_option, nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped


@click.command()
@nats_option
@stop_with_stdin_option
@keys_option
def auth(nats_url: str | None, stop_with_stdin: bool, keys: Path) -> None:
    """Run an auth service, which turns tokens into NATS permissions.

    NATS asks it about each connection without an nkey. Two may run on two hosts, so that one may fail. A changed
    tokens.json is read at the start only: restart them one after the other.
    """
    run(_auth(nats_url, stop_with_stdin, KeyFolder(keys)), log_level=None)


async def _auth(nats_url: str | None, stop_with_stdin: bool, folder: KeyFolder) -> None:
    base = bus_config(nats_url, name="auth")
    fleet = with_nkey(base, folder.role("auth"))
    system = with_nkey(base, folder.system_user).model_copy(update={"name": "auth system"})
    keys = AuthKeys(TokenKeys.read(folder.tokens), read_issuer(folder))
    await serve_until_stopped(
        lambda ready: run_auth_service(fleet, system, keys, ready=ready), stop_with_stdin=stop_with_stdin
    )
