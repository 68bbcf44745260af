"""A closed NATS with an auth service, and connections with any credential."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from mafalda.aio.tasks import background
from mafalda.auth.keys import ACCOUNTS_CONF, KeyFolder, create_keys, ensure_keys, read_issuer
from mafalda.auth.service import AuthKeys, run_auth_service
from mafalda.auth.tokens import TokenKeys
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.nats.bus import NatsBus, connect
from mafalda.bus.nats.server import NatsServer, ServerConfig, run_server
from mafalda.contract.grants import Grants

DEADLINE_S = 60


@dataclass
class Participant:
    """A connection with a token, and what NATS refused to it."""

    client: Client
    refused: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_refused(self, number: int) -> None:
        """Wait until NATS has refused so many subjects; nats-py reports them a while after its flush."""
        await self.client.flush()
        async with asyncio.timeout(DEADLINE_S):
            while len(self.refused) < number:  # noqa: ASYNC110 - no event of its own
                await asyncio.sleep(0.005)  # nats-py only calls back; the deadline ends the loop


@dataclass
class Closed:
    """A closed NATS."""

    server: NatsServer
    keys: KeyFolder

    @property
    def tokens(self) -> TokenKeys:
        return TokenKeys.read(self.keys.tokens)

    def config(self, file: Path, name: str) -> BusConfig:
        return BusConfig(servers=(self.server.url,), name=name, nkey_seed=read_seed(file))

    @asynccontextmanager
    async def role(self, role: str) -> AsyncIterator[NatsBus]:
        async with connect(self.config(self.keys.role(role), role)) as bus:
            yield bus

    @asynccontextmanager
    async def auth_service(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        serving = run_auth_service(
            self.config(self.keys.role("auth"), "auth"),
            self.config(self.keys.system_user, "auth system"),
            AuthKeys(self.tokens, read_issuer(self.keys)),
            ready=ready,
        )
        async with background(serving, name="auth service"):
            async with asyncio.timeout(DEADLINE_S):
                await ready.wait()
            yield

    def mint(self, **grants: Any) -> str:
        wanted = Grants.model_validate({"rooms": ["lobby"], "peer": "alice", **grants})
        return self.tokens.mint(wanted, life_s=600, now=int(time.time()))

    async def connect(self, peer: str = "alice", *, room: str = "lobby", **credential: Any) -> Participant:
        """A connection of nats-py's own; it does not come back when it is ended."""
        participant: Participant

        async def on_error(error: Exception) -> None:
            participant.refused.append(str(error))

        async def on_end() -> None:
            participant.ended.set()

        participant = Participant(Client())
        participant.client = await nats.connect(
            self.server.url,
            allow_reconnect=False,
            connect_timeout=DEADLINE_S,
            inbox_prefix=f"_INBOX.{room}.{peer}",
            error_cb=on_error,
            closed_cb=on_end,
            **credential,
        )
        return participant


@pytest.fixture
async def closed(tmp_path: Path, no_leaked_tasks: None) -> AsyncIterator[Closed]:
    """A closed NATS with its streams and one auth service. ``s1`` is a server with a key of its own."""
    create_keys(tmp_path / "keys")
    keys = ensure_keys(tmp_path / "keys", ["s1"])
    config = ServerConfig(port=0, accounts_conf=keys.folder / ACCOUNTS_CONF)
    async with run_server(config) as server:
        closed = Closed(server, keys)
        async with closed.auth_service(), closed.role("allocator"):
            yield closed
