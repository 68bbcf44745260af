"""What the room page's server says to hosts, guests and strangers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from httpx import ASGITransport, AsyncClient

from mafalda.bus.nats.bus import NatsBus
from mafalda.cli.page import PageAccess, RoomPage, _Api, _application


@asynccontextmanager
async def open_demo(folder: Path) -> AsyncIterator[tuple[AsyncClient, PageAccess]]:
    """The page of an open fleet whose host may kill workers."""
    access, no_bus = PageAccess.of(None), cast("NatsBus", None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        application = _application(RoomPage(folder, listener), _Api(no_bus, 1, access, kills_workers=True), 1)
        async with AsyncClient(transport=ASGITransport(application), base_url="http://127.0.0.1") as client:
            yield client, access


def bearing(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


async def admitted(client: AsyncClient, key: str | None) -> dict[str, Any]:
    answer = await client.post("/api/token", json={"room": "lobby"}, headers=bearing(key))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_a_host_of_an_open_fleet_invites_guests_who_may_not_kill(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as (client, access):
        host = await admitted(client, access.host_key)
        assert host["killWorkers"] is True
        for key in (host["guestKey"], None):
            guest = await admitted(client, key)
            assert (guest["killWorkers"], guest.get("guestKey")) == (False, None)
            assert (await client.post("/api/workers/server-1-0/kill", headers=bearing(key))).status_code == 401


async def test_the_audience_has_a_link_of_its_own_that_makes_no_host(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as (client, access):
        key = (await admitted(client, access.host_key))["audienceKey"]
        watching = await admitted(client, key)
        assert (watching["audience"], watching["moderate"], watching.get("audienceKey")) == (True, False, None)
        assert "audience" not in await admitted(client, access.guest_key)


async def test_another_name_that_leads_here_gets_nothing(tmp_path: Path) -> None:
    async with open_demo(tmp_path) as (client, access):
        headers = {**bearing(access.host_key), "Host": "attacker.example"}
        assert (await client.post("/api/workers/server-1-0/kill", headers=headers)).status_code == 400
