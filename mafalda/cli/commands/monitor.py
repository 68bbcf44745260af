"""``mafalda monitor``: the whole fleet on a page, and as JSON."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from mafalda.cli.history import open_history
from mafalda.cli.options import ListenAddress, archive_option, nats_option, stop_with_stdin_option
from mafalda.cli.running import run, serve_until_stopped
from mafalda.cli.serving import HOST, MONITOR_PORT, NAMES, Headers, KeyRequired, listen, serve
from mafalda.monitor.web.routes import Api
from mafalda.monitor.web.watcher import watching

#: The page's files are its own; it asks nobody else.
_HEADERS = {
    "Cache-Control": "no-cache",  # files are revalidated by their ETag
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: Addresses that are no name to open the page by.
_WILDCARDS = ("0.0.0.0", "::")


@click.command()
@nats_option
@archive_option
@click.option(
    "--listen",
    "address",
    envvar="MAFALDA_MONITOR_LISTEN",
    type=ListenAddress(),
    metavar="[HOST:]PORT",
    help="Serve the page there; port 0: any free one. [default: 127.0.0.1:8081, or a free port if that is taken] "
    "[env: MAFALDA_MONITOR_LISTEN]",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further host name by which browsers may open the page, such as monitor.example.com; *: any.",
)
@click.option(
    "--key",
    envvar="MAFALDA_MONITOR_KEY",
    metavar="TEXT",
    help="Answer only whose link carries this key, as ?key=TEXT; other users see it here, but not in the environment. "
    "[env: MAFALDA_MONITOR_KEY]",
)
@click.option("--listen-fd", type=click.IntRange(0), hidden=True, help="A listening socket of the supervisor's.")
@stop_with_stdin_option
def monitor(
    nats_url: str | None,
    archive: str | None,
    address: tuple[str, int] | None,
    names: tuple[str, ...],
    key: str | None,
    listen_fd: int | None,
    stop_with_stdin: bool,
) -> None:
    """Serve a page of the whole fleet, now and at any moment of the past, and the same as JSON under /api/.

    It is read-only. Without --key it is open to whoever reaches its port: it listens on loopback unless --listen names
    another address.
    """
    host, port = address or (HOST, None)
    shown = f"[{host}]" if ":" in host else host
    with socket.socket(fileno=listen_fd) if listen_fd is not None else listen(port, MONITOR_PORT, host) as listener:
        if not stop_with_stdin:
            link = f"http://{shown}:{listener.getsockname()[1]}/"
            click.echo(f"monitor: {link}{'?key=… (the key that it was given)' if key else ''}")  # output may be a log
        hosts = names if host in _WILDCARDS else (shown, *names)
        run(_monitor(nats_url, archive, listener, hosts, key, stop_with_stdin), log_level=None)


async def _monitor(
    nats_url: str | None,
    archive: str | None,
    listener: socket.socket,
    names: tuple[str, ...],
    key: str | None,
    stop_with_stdin: bool,
) -> None:
    async def component(ready: asyncio.Event) -> None:
        async with (
            open_history(nats_url, None, archive, stored=False, role="monitor") as history,
            watching(history.bus) as watcher,
            serve(_application(Api(watcher, history), names, key), listener, name="serve the monitor"),
        ):
            ready.set()
            await asyncio.Event().wait()

    await serve_until_stopped(component, stop_with_stdin=stop_with_stdin)


def _application(api: Api, names: tuple[str, ...], key: str | None) -> Starlette:
    return Starlette(
        routes=[*api.routes(), _page()],
        middleware=[
            # A foreign site could pass for this one by a name of its own that leads here (DNS rebinding).
            Middleware(TrustedHostMiddleware, allowed_hosts=[*NAMES, "[::1]", *names]),
            Middleware(Headers, headers=_HEADERS),
            Middleware(GZipMiddleware),
            *([Middleware(KeyRequired, key=key, path="/api/")] if key else []),
        ],
    )


def _page() -> BaseRoute:
    folder = Path(__file__).resolve().parents[3] / "web" / "monitor" / "dist"
    if (folder / "index.html").is_file():
        return Mount("/", StaticFiles(directory=folder.resolve(), html=True))
    text = "The page has not been built: `make setup` does it, where npm or the Node wheel is. JSON is under /api/."
    return Route("/", lambda _: PlainTextResponse(text))
