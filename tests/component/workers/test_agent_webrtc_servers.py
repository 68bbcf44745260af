"""WebRtcServers of applications, which several workers of a server have at once, when those workers die."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mafalda.errors import AlreadyExists, NotFound
from mafalda.mediasoup.transports.listen import listen_info_body
from mafalda.workers.passthrough.webrtc_servers import SharedWebRtcServers
from mafalda.workers.supervision.supervisor import LiveWorker
from tests.component.workers.agent_world import DEADLINE_S, Fleet

INFOS: list[dict[str, Any]] = [listen_info_body({"protocol": "udp", "ip": "127.0.0.1"})]


async def _two_workers(fleet: Fleet) -> tuple[SharedWebRtcServers, LiveWorker, LiveWorker]:
    agent = await fleet.start("s1", workers=2)
    first, second = sorted(agent.supervisor.alive.values(), key=lambda live: live.slot)
    return SharedWebRtcServers(agent.supervisor), first, second


async def _ids(live: LiveWorker) -> list[str]:
    found: list[str] = (await live.worker.dump())["webRtcServerIds"]
    return found


async def _kill(live: LiveWorker) -> None:
    live.worker.kill()
    async with asyncio.timeout(DEADLINE_S):
        await live.ended.wait()


async def test_the_death_of_its_owner_s_worker_closes_it_on_no_other(fleet: Fleet) -> None:
    servers, first, second = await _two_workers(fleet)
    await servers.open("w", INFOS, first, owner := object())
    await servers.lease("w", INFOS, second, "transport")
    await _kill(first)
    await servers.close("w", owner)

    assert "w" in await _ids(second)
    assert (await servers.dump("w"))["id"] == "w"


async def test_it_is_opened_again_where_transports_have_it_already(fleet: Fleet) -> None:
    servers, first, second = await _two_workers(fleet)
    await servers.open("w", INFOS, first, object())
    await servers.lease("w", INFOS, second, "transport")
    await _kill(first)
    await servers.open("w", INFOS, second, owner := object())
    with pytest.raises(AlreadyExists):
        await servers.open("w", INFOS, second, object())
    await servers.release("w", second.id, "transport")
    assert "w" in await _ids(second), "its owner keeps it open"
    await servers.close("w", owner)

    assert "w" not in await _ids(second)
    with pytest.raises(NotFound):
        await servers.dump("w")


async def test_whoever_waits_while_it_is_closed_opens_it_again(fleet: Fleet) -> None:
    servers, first, second = await _two_workers(fleet)
    await servers.open("w", INFOS, first, owner := object())
    await asyncio.gather(servers.close("w", owner), servers.lease("w", INFOS, second, "transport"))

    assert (await servers.dump("w"))["id"] == "w"
    await servers.release("w", second.id, "transport")
    assert "w" not in await _ids(second)
