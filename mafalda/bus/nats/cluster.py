"""A cluster of nats-servers on one machine: what ``mafalda up --nats-servers 3`` and tests run.

Each server keeps its own copy of each stream. The log takes appends as long as more than half of the servers run.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from mafalda.aio.tasks import gather_or_cancel
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.errors import ServerFailed
from mafalda.bus.log.streams import ensure_streams
from mafalda.bus.nats.server import ClusterMember, NatsServer, ServerConfig, run_server

#: Seconds until the servers of a new cluster have found each other and elected leaders: 3 to 6 on two busy cores.
FORM_TIMEOUT_S = 60.0
#: A free port for a route may be taken before its server listens there.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class NatsCluster:
    """Running servers, by name. Get one from ``run_cluster``."""

    servers: dict[str, NatsServer]

    @property
    def url(self) -> str:
        """For clients: the URLs of all servers, separated by commas."""
        return ",".join(server.url for server in self.servers.values())


@asynccontextmanager
async def run_cluster(
    config: ServerConfig | None = None, *, number: int = 3, nkey_seed: SecretStr | None = None
) -> AsyncIterator[NatsCluster]:
    """Run a cluster as long as the block, with Mafalda's streams in it, each with a copy on every server.

    Args:
        config: Of each server. With a fixed port the others listen on the next ones; with a store directory each keeps
            its streams in a folder of its own there. Web pages may connect to the first server alone.
        number: How many servers; 1 to 5.
        nkey_seed: Of a role that may make streams; ``None``: the servers are open.

    Raises:
        ServerFailed: One did not start; a taken port is the usual reason.
        BusUnavailable: They did not find each other.
    """
    config = config or ServerConfig(port=0)
    async with AsyncExitStack() as stack:
        cluster = await _start(config, number, stack)
        urls = tuple(server.url for server in cluster.servers.values())
        wanted = BusConfig(servers=urls, replicas=number, connect_timeout_s=FORM_TIMEOUT_S, nkey_seed=nkey_seed)
        async with open_connection(wanted) as connection:
            await ensure_streams(connection)
        yield cluster


async def _start(config: ServerConfig, number: int, stack: AsyncExitStack) -> NatsCluster:
    for attempt in range(_TRIES):
        async with AsyncExitStack() as starting:
            members = _members(config, number)
            try:
                servers = await gather_or_cancel(starting.enter_async_context(run_server(it)) for it in members)
            except ServerFailed:
                if config.port or attempt == _TRIES - 1:
                    raise
                continue
            stack.push_async_exit(starting.pop_all())
            names = [it.cluster.name for it in members if it.cluster]
            return NatsCluster(dict(zip(names, servers, strict=True)))
    raise AssertionError("unreachable")


def _members(config: ServerConfig, number: int) -> list[ServerConfig]:
    """The configuration of each server."""
    ports = _free_ports(config.host, number)
    routes = tuple(f"nats://{config.host}:{port}" for port in ports)
    members = []
    for index, port in enumerate(ports):
        name = f"nats-{index + 1}"
        changed = {
            "port": config.port + index if config.port else 0,
            "cluster": ClusterMember(name=name, port=port, routes=routes),
            "store_dir": config.store_dir / name if config.store_dir else None,
            "websocket_origins": config.websocket_origins if index == 0 else None,
            "start_timeout_s": max(config.start_timeout_s, FORM_TIMEOUT_S),
        }
        members.append(config.model_copy(update=changed))
    return members


def _free_ports(host: str, number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
