"""What a peer was granted counts for whichever credential the agent has; only without any is the fleet open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from mafalda.auth.revocations import ensure_auth_stream, store_grants
from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, default_conf, run_server
from mafalda.contract.grants import Grants
from mafalda.contract.permissions import granted_subject
from mafalda.errors import NotGranted


@pytest.mark.parametrize("way", ["fields", "url"])
async def test_an_agent_with_a_password_reads_what_a_peer_was_granted(tmp_path: Path, way: str) -> None:
    conf = tmp_path / "nats.conf"
    conf.write_text(f"{default_conf().read_text()}\nauthorization {{ user: agent, password: secret }}\n")
    async with run_server(ServerConfig(port=0, conf_file=conf)) as server:
        given: dict[str, Any] = {"servers": (server.url,), "user": "agent", "password": "secret"}
        if way == "url":
            given = {"servers": (server.url.replace("//", "//agent:secret@"),)}
        async with connect(BusConfig.model_validate(given)) as agent:
            assert await agent.grants("lobby", "alice") is None  # there is no auth service
            await ensure_auth_stream(agent.connection)
            grants = Grants(rooms=["lobby"], peer="alice", publish=["audio"])
            await store_grants(agent.connection, {"lobby": grants})
            assert await agent.grants("lobby", "alice") == grants
            assert await agent.grants("lobby", "bob") is None
            newer = orjson.dumps({**grants.to_json_dict(), "screenShare": False})
            await agent.connection.request(granted_subject("lobby", "bob"), newer, timeout_s=10)
            with pytest.raises(NotGranted, match="version"):  # what it restricts cannot be known
                await agent.grants("lobby", "bob")
