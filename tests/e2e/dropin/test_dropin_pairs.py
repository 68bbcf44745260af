"""How many participants a worker's death hits."""

from __future__ import annotations

import asyncio

from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS
from tests.e2e.conftest import Up
from tests.e2e.dropin.conftest import dropin, places

PARTICIPANTS = 6


async def test_a_death_hits_few(fleet: Up) -> None:
    """Over two workers under ``spread``, each participant is hit by the death of one of them, not by either."""
    async with dropin(fleet) as worker:
        router = await worker.create_router(media_codecs=MEDIA_CODECS)
        participants = [
            [await router.create_webrtc_transport(listen_infos=[LOOPBACK]) for _ in range(2)]
            for _ in range(PARTICIPANTS)
        ]
        where = await asyncio.to_thread(places, fleet, router.id)
        hits = {at: sum(at in {where[it.id] for it in own} for own in participants) for at in set(where.values())}
    print(f"a death hits {hits} of {PARTICIPANTS} participants")
    assert len(hits) == 2, "both workers have participants"
    assert sum(hits.values()) == PARTICIPANTS
