"""``mafalda keys``: the keys of a closed fleet."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mafalda.auth.keys import create_keys
from mafalda.errors import MafaldaError


@click.group()
def keys() -> None:
    """Make the keys of a closed fleet and nats-server's configuration."""


@keys.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Make an nkey for each role, the key of tokens, and nats-server's configuration in FOLDER.

    It never overwrites: a folder that has keys is refused.
    """
    try:
        made = create_keys(folder)
    except MafaldaError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(1)
    click.echo(
        f"made {folder}: an nkey for each role (agent.nk, ...), tokens.json, accounts.conf and nats.conf.\n"
        f"nats-server -c {made.nats_conf} -a HOST -sd STORE takes only these keys, and participants with a token\n"
        f"once mafalda auth --keys {folder} runs. Keep the folder secret; a host needs only the files of its own role."
    )
