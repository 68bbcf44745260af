"""Each language's example says so, and ends, when what it missed while NATS was away is not in the log any more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg

from mafalda.bus.nats.server import ServerConfig, run_server
from tests.languages.conftest import BUILD_TIMEOUT_S, LANGUAGES
from tests.languages.programs import DEADLINE_S, running

PEER = "mafalda.room.lobby.peer.ana"
PLACE = {"server": "s1", "worker": "w1", "generation": 1, "routerRtpCapabilities": {}}
GONE = {"error": {"code": "log-truncated", "message": "the entries were discarded", "details": {}}}


def event(type: str, data: dict[str, Any], cause: str = "") -> bytes:
    """A CloudEvent of the fleet."""
    return json.dumps({"specversion": "1.0", "id": "1", "type": type, "causationid": cause, "data": data}).encode()


@asynccontextmanager
async def fleet(port: int) -> AsyncIterator[int]:
    """NATS, and who answers a join and queries in place of a fleet whose log has nothing old; yields the port."""

    async def join(asked: Msg) -> None:
        place = event("mafalda.result.join.v1", PLACE, json.loads(asked.data)["id"])
        await client.publish(f"live.{PEER}.result.join", place, headers={"Nats-Sequence": "7"})

    async def room(asked: Msg) -> None:
        found = {"seq": 7, "peers": [], "producers": [], "dataProducers": []}
        await asked.respond(event("mafalda.answer.room.v1", found))

    async def entries(asked: Msg) -> None:
        await asked.respond(event("mafalda.result.rejected.v1", {"intent": "entries", **GONE}))

    async with run_server(ServerConfig(port=port)) as server:
        client = await nats.connect(server.url)
        try:
            await client.subscribe(f"{PEER}.intent.join", cb=join)
            await client.subscribe(f"{PEER}.query.room", cb=room)
            await client.subscribe(f"{PEER}.query.entries", cb=entries)
            await client.flush()
            yield int(server.url.rpartition(":")[2])
        finally:
            await client.close()


@pytest.mark.timeout(BUILD_TIMEOUT_S + 2 * DEADLINE_S)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_example_says_that_entries_are_gone_and_ends(language: str) -> None:
    command = LANGUAGES[language]()
    async with AsyncExitStack() as stack:
        async with fleet(0) as port:
            arguments = [*command, f"nats://127.0.0.1:{port}", "lobby", "ana", "watch"]
            program = await stack.enter_async_context(running(language, arguments, {"MAFALDA_TOKEN": ""}))
            await program.has("room")
        async with fleet(port):  # NATS is back
            assert await program.ended() == 1
    assert "log-truncated" in str(program.lines)
