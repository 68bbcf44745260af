"""A fleet on one machine: nats-server, allocators and agents as processes, started and stopped together.

Each component is a child that says ``ready`` on its standard output and ends when its standard
input closes, so that nothing outlives a supervisor that was killed. What does not belong here:
what the components do.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from mafalda.bus.errors import ServerFailed
from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from mafalda.cli import page as room_page
from mafalda.cli.paths import default_store_dir
from mafalda.errors import Broken

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
RESTART_DELAY_S = 1.0


class ComponentFailed(Broken):
    code = "component-failed"


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """What to start. ``nats_url`` given: no nats-server of our own."""

    workers: int = 2  # for each server
    servers: int = 1
    allocators: int = 1
    policy: str = "pack"
    nats_url: str | None = None
    nats_host: str = "127.0.0.1"
    nats_port: int = 4222  # 0: any free one
    store_dir: Path | None = None  # of the embedded nats-server; None: the default one
    page: bool = False  # serve the room page, if it has been built
    web_port: int | None = None  # of the page; None: the default one, or any free one if that is taken
    log_file: Path | None = None  # where the components' logs go; None: our standard error


@dataclass(slots=True)
class Component:
    """One child process, started again when it dies unasked."""

    name: str
    argv: list[str]
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0


@dataclass(slots=True)
class Fleet:
    """A running fleet."""

    nats_url: str
    page_url: str | None = None  # the room page's address, if it is served
    components: list[Component] = field(default_factory=list)


@asynccontextmanager
async def fleet(config: FleetConfig, *, say: Callable[[str], None] = lambda _: None) -> AsyncIterator[Fleet]:
    """Start all, yield when all are ready, stop all in the reverse order.

    Args:
        config: What to start.
        say: Told of each step, for people.

    Raises:
        ComponentFailed: A component did not get ready; its log tells why.
    """
    async with AsyncExitStack() as stack:
        url = config.nats_url
        page, listener = _page(config, stack, say)
        server: NatsServer | None = None
        if url is None:
            store = config.store_dir or default_store_dir()
            store.mkdir(parents=True, exist_ok=True)
            origins = room_page.origins(listener) if listener else None
            server = await stack.enter_async_context(
                run_server(
                    ServerConfig(
                        host=config.nats_host, port=config.nats_port, store_dir=store, websocket_origins=origins
                    )
                )
            )
            url = server.url
            say(f"nats-server at {url}, its store in {store}")
            stack.push_async_callback(
                _cancel, asyncio.create_task(_keep_serving(server, say), name="watch nats-server")
            )
        running = Fleet(url)
        errors = stack.enter_context(config.log_file.open("ab")) if config.log_file else None
        supervisor = Supervisor(url, errors.fileno() if errors else None, say)
        stack.push_async_callback(supervisor.stop_all)
        for component in _components(config):
            running.components.append(component)
            await supervisor.start(component)
        if server and page and listener:
            serving = room_page.serve(listener, page, nats_url=url, websocket_port=server.websocket_port)
            running.page_url = await stack.enter_async_context(serving)
        yield running


def _page(
    config: FleetConfig, stack: AsyncExitStack, say: Callable[[str], None]
) -> tuple[Path | None, socket.socket | None]:
    """The folder of the room page and a listening socket for it, or nothing and a line that says why."""
    if not config.page:
        return None, None
    folder = room_page.find_page()
    if folder is None:
        say("no room page: it has not been built (`make setup` builds it)")
        return None, None
    if config.nats_url is not None:
        say("no room page: it comes with the embedded nats-server only")
        return None, None
    return folder, stack.enter_context(room_page.listen(config.web_port))


def _components(config: FleetConfig) -> list[Component]:
    mafalda = [sys.executable, "-m", "mafalda"]
    allocators = [
        Component(f"allocator-{number}", [*mafalda, "allocator", "--policy", config.policy, "--stop-with-stdin"])
        for number in range(1, config.allocators + 1)
    ]
    agents = [
        Component(
            f"agent server-{number}",
            [*mafalda, "agent", "--server", f"server-{number}", "--workers", str(config.workers), "--stop-with-stdin"],
        )
        for number in range(1, config.servers + 1)
    ]
    return allocators + agents


class Supervisor:
    """Starts components, starts them again when they die, stops them."""

    def __init__(self, nats_url: str, stderr: int | None, say: Callable[[str], None]) -> None:
        self._environment = {**os.environ, "MAFALDA_NATS_URL": nats_url}
        self._stderr = stderr
        self._say = say
        self._watchers: list[tuple[Component, asyncio.Task[None]]] = []

    async def start(self, component: Component) -> None:
        """Start a component and wait until it is ready.

        Raises:
            ComponentFailed: It ended, or was not ready within ``START_TIMEOUT_S``.
        """
        await self._spawn(component)
        watcher = asyncio.create_task(self._keep_running(component), name=f"watch {component.name}")
        self._watchers.append((component, watcher))

    async def stop_all(self) -> None:
        """Stop in reverse order: agents first say goodbye to an allocator that is still there."""
        for _, watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*(watcher for _, watcher in self._watchers), return_exceptions=True)
        agents = [component for component, _ in self._watchers if component.name.startswith("agent")]
        others = [component for component, _ in self._watchers if component not in agents]
        for group in (agents, others):
            await asyncio.gather(*(_stop(component) for component in group))

    async def _spawn(self, component: Component) -> None:
        component.process = process = await asyncio.create_subprocess_exec(
            *component.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            env=self._environment,
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
                "a component did not start; its log tells why", component=component.name, exit_code=process.returncode
            )
        self._say(f"{component.name} is ready (pid {process.pid})")

    async def _keep_running(self, component: Component) -> None:
        while component.process is not None:
            code = await component.process.wait()
            component.restarts += 1
            log.error("component died", action="component_died", component=component.name, exit_code=code)
            self._say(f"{component.name} ended with {code}; starting it again")
            await asyncio.sleep(RESTART_DELAY_S)
            try:
                await self._spawn(component)
            except ComponentFailed as error:
                log.error("component did not start", action="component_failed", reason=str(error))


async def _keep_serving(server: NatsServer, say: Callable[[str], None]) -> None:
    """Start nats-server again whenever it ends; media goes on meanwhile."""
    while True:
        try:
            await server.wait()
        except ServerFailed as error:
            log.error("nats-server ended", action="component_died", component="nats-server", reason=str(error))
            say("nats-server ended; starting it again")
        try:
            await server.start()
        except ServerFailed as error:
            log.error("nats-server did not start", action="component_failed", reason=str(error))
            await asyncio.sleep(RESTART_DELAY_S)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _stop(component: Component) -> None:
    process = component.process
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        log.error("component did not stop; killed", action="component_killed", component=component.name)
        process.kill()
        await process.wait()
