"""Connect a command to a running NATS, or to the log that the last embedded nats-server left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from mafalda.auth.keys import KeyFolder, ensure_keys
from mafalda.bus.config import DEFAULT_URL, BusConfig, read_seed, server_urls
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.cli.options import NKEY_FILE
from mafalda.cli.paths import KEYS_FOLDER, default_store_dir
from mafalda.contract.permissions import FleetRole
from mafalda.errors import BusUnavailable

#: A local server answers in milliseconds.
LOCAL_CONNECT_TIMEOUT_S = 1.0


def bus_config(
    nats_url: str | None,
    *,
    name: str = "mafalda",
    role: FleetRole = "operator",
    server: str | None = None,
    nkey_file: Path | None = None,
) -> BusConfig:
    """The bus configuration of a command.

    Args:
        nats_url: URLs separated by commas, from the option or the environment; ``None``: the embedded server's.
        name: Name of the connection, shown by NATS' monitoring.
        role: Whose nkey is taken from the local fleet's keys, if no credential is given.
        server: The server whose agent it is.
        nkey_file: The nkey, whatever is given elsewhere.

    Raises:
        BadInput: The file with the nkey cannot be read.
    """
    config = BusConfig.from_environment(name=name)
    changes: dict[str, Any] = {"servers": server_urls(nats_url)} if nats_url else {}
    context = click.get_current_context(silent=True)
    file = nkey_file or (context.meta.get(NKEY_FILE) if context is not None else None)
    if file is None and not (config.nkey_seed or config.token or config.credentials_file):
        file = _local_nkey(changes.get("servers", config.servers), role, server)
    config = config.model_copy(update=changes)
    return with_nkey(config, file) if file is not None else config


def with_nkey(config: BusConfig, file: Path) -> BusConfig:
    """The configuration with the nkey in a file, and no other credential, which NATS would take instead.

    Raises:
        BadInput: The file cannot be read, or holds no nkey.
    """
    others: dict[str, Any] = {"token": None, "credentials_file": None, "user": None, "password": None}
    return config.model_copy(update={"nkey_seed": read_seed(file), **others})


def _local_nkey(servers: tuple[str, ...], role: FleetRole, server: str | None) -> Path | None:
    """The nkey that ``mafalda up`` made on this machine, if the fleet is on this machine."""
    keys = KeyFolder(default_store_dir() / KEYS_FOLDER)
    file = keys.agent(server) if server else keys.role(role)
    is_local = all(urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") for url in servers)
    return file if is_local and file.exists() else None


@asynccontextmanager
async def open_bus(
    nats_url: str | None, *, store: Path | None = None, stored: bool = True, role: FleetRole = "operator"
) -> AsyncIterator[NatsBus]:
    """Connect a command that only reads.

    Without a URL, and without a NATS on the default port, an embedded nats-server opens the log that the last one left,
    on a free port, while the command runs.

    Args:
        nats_url: URLs of NATS.
        store: Read the log in this store folder instead.
        stored: Whether the log that the last embedded nats-server left may be used.
        role: Whose nkey is taken from the local fleet's keys, as in ``bus_config``.

    Raises:
        BusUnavailable: NATS cannot be reached, and no log was left.
    """
    config = bus_config(nats_url, name="mafalda cli", role=role)
    async with AsyncExitStack() as stack:
        if store:
            yield await _open_store(stack, config, store)
            return
        if nats_url:
            yield await stack.enter_async_context(connect(config))
            return
        try:
            quick = config.model_copy(update={"connect_timeout_s": LOCAL_CONNECT_TIMEOUT_S})
            bus = await stack.enter_async_context(connect(quick))
        except BusUnavailable:
            store = default_store_dir()
            if not stored or not store.exists():
                raise
            click.echo(f"nobody listens on {DEFAULT_URL}; this is the log of the last run, in {store}", err=True)
            bus = await _open_store(stack, config, store)
        yield bus


async def _open_store(stack: AsyncExitStack, config: BusConfig, store: Path) -> NatsBus:
    keys = KeyFolder(store / KEYS_FOLDER)
    accounts = None
    if keys.issuer.exists():
        accounts = ensure_keys(keys.folder).accounts_conf
        config = with_nkey(config, keys.role("operator"))
    server_config = ServerConfig(port=0, store_dir=store, accounts_conf=accounts)
    server = await stack.enter_async_context(run_server(server_config))
    return await stack.enter_async_context(connect(config.model_copy(update={"servers": (server.url,)})))
