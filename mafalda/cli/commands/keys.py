"""``mafalda keys``: the keys of a closed fleet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from mafalda.auth.keys import KeyFolder, create_keys, ensure_keys
from mafalda.errors import BadInput, MafaldaError


@click.group()
def keys() -> None:
    """Make the keys of a closed fleet and nats-server's configuration."""


@keys.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="ID",
    help="Make a key for this server's agent, with which it speaks for no other server; repeatable. "
    "[default: one key for all agents]",
)
def init(folder: Path, servers: tuple[str, ...]) -> None:
    """Make an nkey for each role, the key of tokens, and nats-server's configuration in FOLDER.

    It never overwrites: a folder that has keys is refused.
    """
    made = _attempt(lambda: create_keys(folder, servers))
    agents = ", ".join(f"agent-{server}.nk" for server in servers) or "agent.nk"
    click.echo(
        f"made {folder}: an nkey for each role ({agents}, ...), tokens.json, accounts.conf and nats.conf.\n"
        f"nats-server -c {made.nats_conf} -a HOST -sd STORE takes only these keys, and participants with a token\n"
        f"once mafalda auth --keys {folder} runs. Keep the folder secret; a host needs only the files of its own role."
    )


@keys.command("add-agent")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("servers", metavar="SERVER...", nargs=-1, required=True)
def add_agent(folder: Path, servers: tuple[str, ...]) -> None:
    """Make a key for the agent of each SERVER in FOLDER, and write accounts.conf anew.

    With it NATS lets an agent speak for its own server alone. A server that has one keeps it.
    """
    made = _attempt(lambda: ensure_keys(_with_keys(folder), servers))
    click.echo("\n".join(str(made.agent_of(server)) for server in servers))
    _tell_to_reload(made)


@keys.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def config(folder: Path) -> None:
    """Write accounts.conf anew for the keys in FOLDER: a key whose file was deleted is refused from then on."""
    _tell_to_reload(_attempt(lambda: ensure_keys(_with_keys(folder))))


def _attempt(make: Callable[[], KeyFolder]) -> KeyFolder:
    try:
        return make()
    except MafaldaError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(1)


def _with_keys(folder: Path) -> Path:
    if not KeyFolder(folder).issuer.exists():
        raise BadInput("the folder has no keys (mafalda keys init)", folder=str(folder))
    return folder


def _tell_to_reload(made: KeyFolder) -> None:
    click.echo(f"wrote {made.accounts_conf}; each nats-server reads it after: nats-server --signal reload", err=True)
