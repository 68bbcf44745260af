"""Run a fleet on one machine: a nats-server, allocators and agents as child processes.

Each component is a child that prints ``ready`` on its standard output and ends when its standard input closes, so
that no component outlives a supervisor that was killed. Processes of mediasoup-workers are supervised by the
agents.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import structlog

from mafalda.aio.retry import retrying
from mafalda.aio.tasks import TaskScope, open_tasks
from mafalda.auth.keys import KeyFolder, ensure_keys
from mafalda.bus.config import CREDENTIAL_VARIABLES, NKEY_FILE_VARIABLE, read_seed
from mafalda.bus.errors import ServerFailed
from mafalda.bus.nats.cluster import NatsCluster, run_cluster
from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from mafalda.cli.connecting import bus_config
from mafalda.cli.page import PageAccess, RoomPage, open_page, serve_page
from mafalda.cli.paths import KEYS_FOLDER, default_store_dir
from mafalda.cli.running import READY_FILE_VARIABLE
from mafalda.cli.serving import HTTP_PORT, MONITOR_PORT, NAMES, listen
from mafalda.contract.permissions import FleetRole
from mafalda.errors import BadInput, Broken

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
RESTART_DELAY_S = 1.0

Progress = Callable[[str], None]


class ComponentFailed(Broken):
    """A component did not start."""

    code = "component-failed"


@dataclass(frozen=True, slots=True)
class LocalFleetConfig:
    """The components of a local fleet. With ``nats_url`` no nats-server is started."""

    workers: int = 2  # for each server
    servers: int = 1
    allocators: int = 1
    policy: str = "pack"
    nats_url: str | None = None
    is_open: bool = True  # whoever reaches the embedded nats-server owns the fleet; False: keys and tokens
    nats_servers: int = 1  # more than one: a cluster, each stream with a copy on every server
    nats_host: str = "127.0.0.1"
    nats_port: int = 4222  # 0: any free one
    page: bool = True  # serve the room page, if it has been built
    page_kills_workers: bool = False  # whether the page's host may kill workers
    web_port: int | None = None  # of the room page; None: 8080, or any free one if that is taken
    monitor: bool = True  # serve the monitor's page and JSON
    monitor_port: int | None = None  # None: 8081, or any free one if that is taken
    http: bool = False  # serve the HTTP API
    http_port: int | None = None  # None: 8082, or any free one if that is taken
    keys: Path | None = None  # of the fleet at nats_url; None: it is open, or the environment has a credential
    store_dir: Path | None = None  # of the embedded nats-server; None: the default one
    archive: str | None = None  # folder or URL to archive the log to; None: it is not archived
    log_file: Path | None = None  # of all components; None: standard error


@dataclass(slots=True)
class Component:
    """One child process, started again when it ends by itself."""

    name: str
    argv: list[str]
    role: FleetRole
    pass_fds: tuple[int, ...] = ()  # file descriptors that it inherits, each time it is started
    environment: dict[str, str] = field(default_factory=dict)  # beside what all have
    server: str | None = None  # of an agent
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0


@dataclass(slots=True)
class LocalFleet:
    """A running fleet. ``nats_servers`` has the embedded ones, by name."""

    nats_url: str
    nats_servers: dict[str, NatsServer] = field(default_factory=dict)
    page_url: str | None = None  # None: the room page is not served
    page_key: str | None = None  # of the page's host, in its link; None: nothing needs it
    monitor_url: str | None = None  # with the key that it needs in a closed fleet; None: the monitor does not run
    http_url: str | None = None  # of the HTTP API; None: it does not run
    keys: KeyFolder | None = None  # None: the fleet is open
    components: list[Component] = field(default_factory=list)

    def page_link(self, room: str | None = None) -> str | None:
        """The link of the room page, with the key that it needs; ``None`` if it is not served."""
        if self.page_url is None:
            return None
        fragment = f"#key={self.page_key}" if self.page_key else ""
        return f"{self.page_url}{f'?room={room}' if room else ''}{fragment}"


@asynccontextmanager
async def open_local_fleet(
    config: LocalFleetConfig, *, progress: Progress = lambda _: None
) -> AsyncIterator[LocalFleet]:
    """Start all components, yield when all are ready, stop them at the end of the block.

    Args:
        config: What to start.
        progress: Called with a sentence at each step.

    Raises:
        ComponentFailed: A component did not get ready; its log has the reason.
        ServerFailed: The nats-server did not start.
        PageUnavailable: ``web_port``, ``monitor_port`` or ``http_port`` is taken.
        BadInput: The HTTP API is wanted, and there are no keys of tokens for it.
    """
    async with AsyncExitStack() as stack:
        page = _open_page(config, stack, progress)
        keys = _keys(config)
        nats = None if config.nats_url else await _open_nats(config, page, keys, stack, progress)
        url = nats.url if nats else config.nats_url or ""
        errors = stack.enter_context(config.log_file.open("ab")) if config.log_file else None
        components = _components(config, keys)
        monitor_url = _add_monitor(config, components, keys is not None, stack)
        http_url = _add_http(config, components, keys, stack)
        supervisor = ComponentSupervisor(url, keys, errors.fileno() if errors else None, progress)
        stack.push_async_callback(supervisor.stop, components)
        watchers = await stack.enter_async_context(open_tasks())
        for component in components:
            await supervisor.start(component, watchers)
        servers = nats.servers if nats else {}
        fleet = LocalFleet(url, servers, monitor_url=monitor_url, http_url=http_url, keys=keys, components=components)
        if page and nats:
            first = next(iter(nats.servers.values()))
            access = PageAccess.of(keys)
            bus = bus_config(url, name="room page", nkey_file=keys.role("operator") if keys else None)
            serving = serve_page(page, bus, first.websocket_port, access, kills_workers=config.page_kills_workers)
            fleet.page_url = await stack.enter_async_context(serving)
            fleet.page_key = access.host_key if keys or config.page_kills_workers else None
        if config.is_open and nats:
            progress(click.style(f"open: whoever reaches {url} owns the fleet", fg="red", bold=True))
        yield fleet


def _store(config: LocalFleetConfig) -> Path:
    return config.store_dir or default_store_dir()


def _keys(config: LocalFleetConfig) -> KeyFolder | None:
    if config.nats_url:
        return KeyFolder(config.keys) if config.keys else None
    return None if config.is_open else ensure_keys(_store(config) / KEYS_FOLDER, _server_ids(config))


def _server_ids(config: LocalFleetConfig) -> list[str]:
    return [f"server-{number}" for number in range(1, config.servers + 1)]


def _open_page(config: LocalFleetConfig, stack: AsyncExitStack, progress: Progress) -> RoomPage | None:
    """The room page with its listening socket, or ``None`` and a line that gives the reason."""
    if not config.page:
        return None
    if config.nats_url:
        progress("no room page: it needs the websocket listener of the embedded nats-server")
        return None
    page = stack.enter_context(open_page(config.web_port))
    if page is None:
        progress("no room page: it has not been built; `make setup` builds it where npm or the Node wheel is installed")
    return page


async def _open_nats(
    config: LocalFleetConfig, page: RoomPage | None, keys: KeyFolder | None, stack: AsyncExitStack, progress: Progress
) -> NatsCluster:
    """Start one nats-server, or several as a cluster; each is started again whenever it ends."""
    store = _store(config)
    store.mkdir(parents=True, exist_ok=True)
    server_config = ServerConfig(
        host=config.nats_host,
        port=config.nats_port,
        store_dir=store,
        accounts_conf=keys.accounts_conf if keys else None,
        websocket_origins=page.origins if page else None,
    )
    seed = read_seed(keys.role("allocator")) if keys else None
    if config.nats_servers == 1:
        cluster = NatsCluster({"nats": await stack.enter_async_context(run_server(server_config))})
    else:
        cluster = await stack.enter_async_context(
            run_cluster(server_config, number=config.nats_servers, nkey_seed=seed)
        )
    watchers = await stack.enter_async_context(open_tasks())
    for name, server in cluster.servers.items():
        progress(f"{name}: nats-server at {server.url}, pid {server.pid}")
        watchers.spawn(_keep_serving(name, server, progress), f"watch {name}")
    progress(f"the streams are in {store}")
    return cluster


async def _keep_serving(name: str, server: NatsServer, progress: Progress) -> None:
    """Start nats-server again whenever it ends; media is forwarded meanwhile."""
    while True:
        try:
            await server.wait()
        except ServerFailed as error:
            log.error("nats-server ended", action="component_died", component=name, reason=str(error))
            progress(f"{name} ended; starting it again")
        async for attempt in retrying(ServerFailed, action="component_failed", first_s=RESTART_DELAY_S):
            with attempt:
                await server.start()


def _components(config: LocalFleetConfig, keys: KeyFolder | None) -> list[Component]:
    mafalda = [sys.executable, "-m", "mafalda"]
    auths = []
    if keys and not config.nats_url:  # who runs that NATS runs its auth service
        auths.append(Component("auth", [*mafalda, "auth", "--keys", str(keys.folder), "--stop-with-stdin"], "auth"))
    allocators = [
        Component(
            f"allocator-{number}", [*mafalda, "allocator", "--policy", config.policy, "--stop-with-stdin"], "allocator"
        )
        for number in range(1, config.allocators + 1)
    ]
    agents = [
        Component(
            f"agent {server}",
            [*mafalda, "agent", "--server", server, "--workers", str(config.workers), "--stop-with-stdin"],
            "agent",
            server=server,
        )
        for server in _server_ids(config)
    ]
    archives = []
    if config.archive:
        run = [*mafalda, "archive", "run", config.archive, "--stop-with-stdin"]
        archives.append(Component("archive", run, "archive"))
    return allocators + auths + agents + archives


def _add_monitor(
    config: LocalFleetConfig, components: list[Component], is_closed: bool, stack: AsyncExitStack
) -> str | None:
    """Add the monitor, on a socket that stays open while it is started again; its URL, in a closed fleet with a key.

    The key is another than the room page's, whose link is made to be passed on to guests.
    """
    if not config.monitor:
        return None
    listener = stack.enter_context(listen(config.monitor_port, MONITOR_PORT))
    descriptor = listener.fileno()
    argv = [sys.executable, "-m", "mafalda", "monitor", "--listen-fd", str(descriptor), "--stop-with-stdin"]
    if config.archive:
        argv += ["--archive", config.archive]
    key = secrets.token_urlsafe(24) if is_closed else ""
    environment = {"MAFALDA_MONITOR_KEY": key}  # other users can read arguments; empty: the fleet is open
    components.append(Component("monitor", argv, "monitor", pass_fds=(descriptor,), environment=environment))
    return f"http://{NAMES[0]}:{listener.getsockname()[1]}/{f'?key={key}' if key else ''}"


def _add_http(
    config: LocalFleetConfig, components: list[Component], keys: KeyFolder | None, stack: AsyncExitStack
) -> str | None:
    """Add the HTTP API, on a socket that stays open while it is started again; its URL."""
    if not config.http:
        return None
    if keys is None and not config.is_open:
        raise BadInput("the HTTP API needs --keys, to verify the tokens of callers, or --open")
    listener = stack.enter_context(listen(config.http_port, HTTP_PORT))
    descriptor = listener.fileno()
    argv = [sys.executable, "-m", "mafalda", "http", "--listen-fd", str(descriptor), "--stop-with-stdin"]
    argv += ["--keys", str(keys.folder)] if keys else ["--open"]
    components.append(Component("http", argv, "application", pass_fds=(descriptor,)))
    return f"http://{NAMES[0]}:{listener.getsockname()[1]}"


class ComponentSupervisor:
    """Starts components, starts them again when they end, and stops them.

    Args:
        nats_url: Given to the components.
        keys: Each component is given the nkey of its role or server, and no other credential; ``None``: the fleet is
            open, or the environment has one.
        stderr: File descriptor of the components' logs; ``None``: standard error.
        progress: Called with a sentence at each step.
    """

    def __init__(self, nats_url: str, keys: KeyFolder | None, stderr: int | None, progress: Progress) -> None:
        others = (READY_FILE_VARIABLE, *(CREDENTIAL_VARIABLES if keys else ()))  # such a file is one process's
        inherited = {name: value for name, value in os.environ.items() if name not in others}
        self._environment = {**inherited, "MAFALDA_NATS_URL": nats_url}
        self._keys = keys
        self._stderr = stderr
        self._progress = progress

    async def start(self, component: Component, watchers: TaskScope) -> None:
        """Start a component and wait until it is ready; a task of ``watchers`` starts it again when it ends.

        Raises:
            ComponentFailed: It ended, or was not ready within ``START_TIMEOUT_S``.
        """
        await self._spawn(component)
        watchers.spawn(self._keep_running(component), f"watch {component.name}")

    async def stop(self, components: list[Component]) -> None:
        """Stop the agents, then the allocators, which append what follows from the agents' last events."""
        agents = [component for component in components if component.name.startswith("agent")]
        others = [component for component in components if component not in agents]
        for group in (agents, others):
            await asyncio.gather(*(_stop(component) for component in group))

    async def _spawn(self, component: Component) -> None:
        nkey = {NKEY_FILE_VARIABLE: str(_nkey_of(component, self._keys))} if self._keys else {}
        component.process = process = await asyncio.create_subprocess_exec(
            *component.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            env={**self._environment, **nkey, **component.environment},
            pass_fds=component.pass_fds,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops its children in order
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if line.strip() != b"ready":
            await _stop(component)
            raise ComponentFailed(
                "a component did not start; its log has the reason",
                component=component.name,
                exit_code=process.returncode,
            )
        self._progress(f"{component.name} is ready (pid {process.pid})")

    async def _keep_running(self, component: Component) -> None:
        while component.process is not None:
            code = await component.process.wait()
            component.restarts += 1
            log.error("component died", action="component_died", component=component.name, exit_code=code)
            self._progress(f"{component.name} ended with {code}; starting it again")
            await asyncio.sleep(RESTART_DELAY_S)
            async for attempt in retrying(ComponentFailed, action="component_failed", first_s=RESTART_DELAY_S):
                with attempt:
                    await self._spawn(component)


def _nkey_of(component: Component, keys: KeyFolder) -> Path:
    return keys.agent(component.server) if component.server else keys.role(component.role)


async def _stop(component: Component) -> None:
    process = component.process
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)  # at once: an agent drains at SIGTERM, and there is nowhere to drain to
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        log.error("component did not stop; killed", action="component_killed", component=component.name)
        process.kill()
        await process.wait()
