"""A denied subject is an error at once that names it; a connection that the server closes is built anew."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mafalda.bus.config import BusConfig
from mafalda.bus.connection import connection
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract import subjects
from mafalda.errors import BusUnavailable, PermissionDenied

MINE, THEIRS = subjects.intent("Lobby", "Alice", "join"), subjects.intent("Lobby", "Bob", "join")
EVENT = subjects.room_event("Lobby", "x")

USERS = """
authorization { users = [
  { user: admin, password: pw }
  { user: alice, password: pw, permissions {
      publish = ["mafalda.room.*.peer.Alice.intent.>", "_INBOX.>", "$JS.API.>"]
      subscribe = ["_INBOX.>", "live.mafalda.room.Lobby.>"] } }
] }
"""

Conf = Callable[[str], Path]


def credential(url: str, user: str, **more: Any) -> BusConfig:
    return BusConfig(servers=(url,), user=user, password=SecretStr("pw"), ensure_streams=user == "admin", **more)


async def test_what_is_denied_is_denied_at_once(conf: Conf, h: Any) -> None:
    async with (
        run_server(ServerConfig(port=0, conf_file=conf(USERS))) as server,
        connect(credential(server.url, "admin")) as admin,
        connect(credential(server.url, "alice")) as alice,
        asyncio.timeout(10),
    ):
        with pytest.raises(PermissionDenied) as caught:
            await alice.append(THEIRS, h.message(THEIRS))
        assert caught.value.details["subject"] == THEIRS  # not lowered, as NATS' library has it
        mine, theirs = await asyncio.gather(
            alice.append(MINE, h.message(MINE)), alice.append(THEIRS, h.message(THEIRS)), return_exceptions=True
        )
        assert not isinstance(mine, BaseException)
        assert mine.seq == 1
        assert isinstance(theirs, PermissionDenied)
        with pytest.raises(PermissionDenied):
            await alice.request(subjects.agent_request("s", "x"), h.message("x"), timeout_s=30)
        with pytest.raises(PermissionDenied):
            async with alice.follow("mafalda.room.elsewhere.>"):
                pass
        async with alice.follow(EVENT) as follower:
            with pytest.raises(PermissionDenied):
                await follower.add(subjects.ALL_COMMANDS)
            await h.append(admin, EVENT)
            assert await h.take(follower, 1) == [2]
        assert alice.connection.interruptions == 0


async def test_whoever_follows_or_waits_is_told_that_the_credential_is_good_for_nothing(nats_url: str, h: Any) -> None:
    async with (
        connect(BusConfig(servers=(nats_url,))) as bus,
        bus.follow(EVENT) as first,
        bus.follow(EVENT) as second,
        bus.inbox() as inbox,
    ):
        await h.append(bus, EVENT)
        waiting = [asyncio.create_task(h.take(first, 2)), asyncio.create_task(inbox.next(10))]
        assert await h.take(second, 1) == [1]
        bus.connection.end(PermissionDenied("revoked"))
        for task in waiting:
            with pytest.raises(PermissionDenied, match="revoked"):
                await task
        for _ in range(2):
            with pytest.raises(PermissionDenied, match="revoked"):
                await h.take(second, 1)


async def test_a_wrong_password_is_not_tried_for_ever(conf: Conf, h: Any) -> None:
    async with run_server(ServerConfig(port=0, conf_file=conf(USERS))) as server, asyncio.timeout(5):
        with pytest.raises(PermissionDenied):
            async with connect(BusConfig(servers=(server.url,), user="alice", password=SecretStr("wrong"))):
                pass


async def test_a_server_that_would_ignore_our_conditions_is_refused(
    nats_url: str, h: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_OLDEST_SERVER", (99, 0))
    with pytest.raises(BusUnavailable, match="too old"):
        async with connect(BusConfig(servers=(nats_url,))):
            pass


async def test_nobody_there(h: Any) -> None:
    config = BusConfig(servers=("nats://me:secret@127.0.0.1:1",), connect_timeout_s=0.3)
    async with asyncio.timeout(5):
        with pytest.raises(BusUnavailable) as caught:
            async with connect(config):
                pass
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(credential("x", "alice", token=SecretStr("secret")))


async def test_a_connection_that_the_server_ends_for_good_is_built_anew(conf: Conf, h: Any) -> None:
    """NATS' library gives up on such an error; we do not."""
    more = "{ user: agent, password: pw }"
    file = conf(USERS.replace("users = [", f"users = [ {more}"))
    async with (
        run_server(ServerConfig(port=0, conf_file=file)) as server,
        connect(credential(server.url, "admin")) as admin,
        connect(credential(server.url, "agent")) as agent,
        agent.follow(EVENT) as follower,
    ):
        await h.append(admin, EVENT)
        conf(USERS)
        os.kill(server.pid, signal.SIGHUP)  # reload: this user is no more
        await h.until(lambda: not agent.connection.is_up)
        await h.append(admin, EVENT)
        conf(USERS.replace("users = [", f"users = [ {more}"))
        os.kill(server.pid, signal.SIGHUP)
        await h.until(lambda: agent.connection.is_up)
        await h.append(agent, EVENT)
        assert await h.take(follower, 3) == [1, 2, 3]
