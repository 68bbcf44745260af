"""Random life through the drop-in while workers die: all is answered in time, nothing is left or wrong at the end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import psutil

from mafalda.contract.errors import MafaldaError
from mafalda.dropin.requests import ANSWER_WITHIN_S
from mafalda.mediasoup import AudioLevelObserver, Router, Transport, Worker
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import dropin

OPERATIONS, DEATHS = 400, 5
#: For the fleet to clear what the last deaths left.
SETTLE_S = 40


class _Closable(Protocol):
    @property
    def closed(self) -> bool: ...


class _Life:
    """One application's: it makes, uses and closes whatever the dice say, of one router at a time."""

    def __init__(self, worker: Worker, seed: int) -> None:
        self._worker = worker
        self._dice = random.Random(seed)
        self._ssrc = 1000 * seed
        self._router: Router | None = None
        self._transports: list[Transport] = []
        self._things: dict[str, list[Any]] = {"producer": [], "consumer": [], "data": [], "observer": []}
        self.done = 0

    async def run(self) -> None:
        doings: list[tuple[int, Callable[[], Awaitable[Any]]]] = [
            (18, self._transport),
            (16, self._produce),
            (8, self._produce_data),
            (20, self._consume),
            (6, self._consume_data),
            (8, self._pause),
            (8, self._close),
            (4, self._observer),
            (5, self._observe),
            (4, self._dump),
            (2, self._close_router),
        ]
        weights = [weight for weight, _ in doings]
        while self.done < OPERATIONS:
            self.done += 1
            (_, doing) = self._dice.choices(doings, weights)[0]
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S + 4):
                    if self._router is None:
                        self._router = await self._worker.create_router(media_codecs=MEDIA_CODECS)
                    await doing()
            except MafaldaError:
                continue  # what it was about has died, or ended in the meantime
        await self._close_router()

    def _any(self, found: list[Any]) -> Any:
        found[:] = [it for it in found if not it.closed]
        return self._dice.choice(found) if found else None

    def _direct(self) -> Any:
        return self._any([it for it in self._transports if it.type == "direct"])

    async def _transport(self) -> None:
        assert self._router is not None
        if len(self._transports) >= 12:
            await self._any(self._transports).close()
        kind = self._dice.choice(("webrtc", "plain", "direct"))
        made: Transport
        if kind == "webrtc":
            made = await self._router.create_webrtc_transport(listen_infos=[LOOPBACK])
        elif kind == "plain":
            made = await self._router.create_plain_transport(listen_info=LOOPBACK, comedia=True)
        else:
            made = await self._router.create_direct_transport()
        self._transports.append(made)

    async def _produce(self) -> None:
        if transport := self._any(self._transports):
            self._ssrc += 1
            self._things["producer"].append(await transport.produce(**audio(ssrc=self._ssrc, mid=str(self._ssrc))))

    async def _produce_data(self) -> None:
        if transport := self._direct():
            self._things["data"].append(await transport.produce_data(label="chat"))

    async def _consume(self) -> None:
        transport, producer = self._any(self._transports), self._any(self._things["producer"])
        if transport and producer and self._router:
            capabilities = self._router.rtp_capabilities
            self._things["consumer"].append(
                await transport.consume(producer_id=producer.id, rtp_capabilities=capabilities)
            )

    async def _consume_data(self) -> None:
        transport, producer = self._direct(), self._any(self._things["data"])
        if transport and producer:
            self._things["consumer"].append(await transport.consume_data(data_producer_id=producer.id))

    async def _pause(self) -> None:
        if found := self._any(self._things[self._dice.choice(("producer", "consumer", "data"))]):
            await (found.resume() if found.paused else found.pause())

    async def _close(self) -> None:
        kinds = [self._transports, *self._things.values()]
        if found := self._any(self._dice.choice(kinds)):
            await found.close()

    async def _observer(self) -> None:
        if self._router and len(self._things["observer"]) < 2:
            self._things["observer"].append(await self._router.create_audio_level_observer())

    async def _observe(self) -> None:
        observer, producer = self._any(self._things["observer"]), self._any(self._things["producer"])
        if isinstance(observer, AudioLevelObserver) and producer:
            await observer.add_producer(producer_id=producer.id)

    async def _dump(self) -> None:
        assert self._router is not None
        await self._router.dump()

    async def _close_router(self) -> None:
        if self._router is not None:
            router, self._router = self._router, None
            await router.close()
        self._transports.clear()
        for found in self._things.values():
            found.clear()


async def _kill(fleet: Up, lives: list[_Life], dice: random.Random) -> None:
    """Kill a real worker whenever the lives have got so far."""
    for death in range(1, DEATHS + 1):
        while sum(life.done for life in lives) < death * OPERATIONS * len(lives) // (DEATHS + 1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        workers = [it for it in fleet.family() if "mediasoup-worker" in _name(it)]
        os.kill(dice.choice(workers).pid, signal.SIGKILL)


def _name(process: psutil.Process) -> str:
    try:
        return Path((process.cmdline() or [""])[0]).name
    except psutil.Error:
        return ""


async def test_nothing_is_left_or_wrong_after_a_random_life_with_deaths(tmp_path: Path) -> None:
    with up(tmp_path, "--servers", "2", "--workers", "2", "--allocators", "2", "--policy", "spread") as fleet:
        async with dropin(fleet) as one, dropin(fleet) as other:
            lives = [_Life(worker, seed) for seed, worker in enumerate((one, one, other), start=1)]
            await asyncio.gather(*(life.run() for life in lives), _kill(fleet, lives, random.Random(7)))
            assert (one.died, other.died) == (None, None)
            async with asyncio.timeout(SETTLE_S):
                while await asyncio.to_thread(lambda: fleet.json("ls")["rooms"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        verified = await asyncio.to_thread(lambda: fleet.mafalda("replay", "--verify", check=False))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    log = (tmp_path / "up.log").read_text()
    assert "Traceback" not in log
