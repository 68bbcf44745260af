"""Two applications on one fleet: each has its own rooms, its own list and its own limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mafalda.mediasoup import Router, Worker
from mafalda.mediasoup.errors import WorkerRequestFailed
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS
from tests.e2e.conftest import up
from tests.e2e.dropin.conftest import dropin, dropin_environment


async def _router(worker: Worker, transports: int) -> Router:
    router = await worker.create_router(media_codecs=MEDIA_CODECS)
    for _ in range(transports):
        await router.create_plain_transport(listen_info=LOOPBACK)
    return router


async def test_applications_are_kept_apart(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "1", MAFALDA_TENANT_PEERS="2") as fleet:
        environments = [dropin_environment(fleet, MAFALDA_TENANT=tenant) for tenant in ("shop", "games")]
        async with (
            dropin(fleet, environment=environments[0]) as shop,
            dropin(fleet, environment=environments[1]) as games,
        ):
            router, other = await _router(shop, 2), await _router(games, 1)
            with pytest.raises(WorkerRequestFailed, match="as many peers as it may have"):
                await router.create_plain_transport(listen_info=LOOPBACK)
            await other.create_plain_transport(listen_info=LOOPBACK)
            listed = {
                tenant: (await asyncio.to_thread(fleet.json, "ls", "--tenant", tenant))["rooms"]
                for tenant in ("shop", "games")
            }
            table = (await asyncio.to_thread(fleet.mafalda, "ls")).stdout
    assert {tenant: [room["room"] for room in rooms] for tenant, rooms in listed.items()} == {
        "shop": [router.id],
        "games": [other.id],
    }
    rows = [line.split() for line in table.splitlines() if router.id in line or other.id in line]
    assert [row[:2] for row in rows] == [["games", other.id]] * 2 + [["shop", router.id]] * 2
