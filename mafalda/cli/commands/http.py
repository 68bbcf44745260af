"""``mafalda http``: the HTTP API for application servers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click

from mafalda.auth.keys import KeyFolder
from mafalda.auth.tokens import TokenKeys
from mafalda.bus.nats.bus import connect
from mafalda.cli.connecting import bus_config
from mafalda.cli.options import ListenAddress, nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.cli.serving import HOST, HTTP_PORT, listen, serve
from mafalda.http.application import http_application
from mafalda.http.control import open_control


@click.command()
@nats_option
@click.option(
    "--keys",
    envvar="MAFALDA_KEYS",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `mafalda keys init`, of which tokens.json is read. [env: MAFALDA_KEYS]",
)
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    help="Without tokens: whoever reaches the port may do everything, as in an open fleet.",
)
@click.option(
    "--listen",
    "address",
    envvar="MAFALDA_HTTP_LISTEN",
    type=ListenAddress(),
    metavar="[HOST:]PORT",
    help="Serve there; port 0: any free one. [default: 127.0.0.1:8082, or a free port if that is taken] "
    "[env: MAFALDA_HTTP_LISTEN]",
)
@click.option("--listen-fd", type=click.IntRange(0), hidden=True, help="A listening socket of the supervisor's.")
@stop_with_stdin_option
def http(
    nats_url: str | None,
    keys: Path | None,
    is_open: bool,
    address: tuple[str, int] | None,
    listen_fd: int | None,
    stop_with_stdin: bool,
) -> None:
    """Serve rooms, peers, tokens and the feed over HTTP, with the nkey of the role `application`; any number may run.

    Callers need a token of `mafalda token mint --application`. TLS is a proxy's. GET /openapi.json describes it all.
    """
    if (keys is None) is not is_open:
        raise click.UsageError("give --keys FOLDER, which verify the tokens of callers, or --open")
    token_keys = TokenKeys.read(KeyFolder(keys).tokens) if keys else None
    host, port = address or (HOST, None)
    with socket.socket(fileno=listen_fd) if listen_fd is not None else listen(port, HTTP_PORT, host) as listener:
        if not stop_with_stdin:
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"http: http://{shown}:{listener.getsockname()[1]}/")
            if is_open:
                click.echo(click.style("open: whoever reaches this port owns all rooms", fg="red", bold=True))
        run(_http(nats_url, token_keys, listener, stop_with_stdin), log_level=None)


async def _http(nats_url: str | None, keys: TokenKeys | None, listener: socket.socket, stop_with_stdin: bool) -> None:
    async def component(ready: asyncio.Event) -> None:
        async with (
            connect(bus_config(nats_url, name="http", role="application")) as bus,
            open_control(bus) as control,
            serve(http_application(control, keys), listener, name="serve the HTTP API"),
        ):
            ready.set()
            await asyncio.Event().wait()

    await serve_until_stopped(component, stop_with_stdin=stop_with_stdin)
