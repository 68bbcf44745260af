"""Random life through the drop-in while workers die: all is answered in time, nothing is left or wrong at the end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from mafalda.dropin.virtual.library_request import ANSWER_TIMEOUT_S
from mafalda.errors import MafaldaError
from mafalda.mediasoup import AudioLevelObserver, Router, Transport, Worker
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import dropin, eventually

OPERATIONS, DEATHS = 400, 5


class _Life:
    """One application's: it makes, uses and closes at random, of one router at a time."""

    def __init__(self, worker: Worker, seed: int, on_operation: Callable[[], None]) -> None:
        self._worker = worker
        self._on_operation = on_operation
        self._rng = random.Random(seed)
        self._ssrc = 1000 * seed
        self._router: Router | None = None
        self._transports: list[Transport] = []
        self._things: dict[str, list[Any]] = {"producer": [], "consumer": [], "data": [], "observer": []}

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
        for _ in range(OPERATIONS):
            self._on_operation()
            (_, doing) = self._rng.choices(doings, weights)[0]
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S + 4):
                    if self._router is None:
                        self._router = await self._worker.create_router(media_codecs=MEDIA_CODECS)
                    await doing()
            except MafaldaError:
                continue  # what it was about has died, or ended in the meantime
        await self._close_router()

    def _any(self, found: list[Any]) -> Any:
        found[:] = [it for it in found if not it.closed]
        return self._rng.choice(found) if found else None

    def _direct(self) -> Any:
        return self._any([it for it in self._transports if it.type == "direct"])

    async def _transport(self) -> None:
        assert self._router is not None
        if len(self._transports) >= 12:
            await self._any(self._transports).close()
        kind = self._rng.choice(("webrtc", "plain", "direct"))
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
        if found := self._any(self._things[self._rng.choice(("producer", "consumer", "data"))]):
            await (found.resume() if found.paused else found.pause())

    async def _close(self) -> None:
        kinds = [self._transports, *self._things.values()]
        if found := self._any(self._rng.choice(kinds)):
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


class _Deaths:
    """Kills a real worker each time that the lives have got so far."""

    def __init__(self, fleet: Up, every: int, rng: random.Random) -> None:
        self._fleet = fleet
        self._every = every
        self._rng = rng
        self._operations = 0

    def operation(self) -> None:
        self._operations += 1
        if self._operations % self._every == 0:
            workers = [it for it in self._fleet.family() if "mediasoup-worker" in _name(it)]
            os.kill(self._rng.choice(workers).pid, signal.SIGKILL)


def _name(process: psutil.Process) -> str:
    try:
        return Path((process.cmdline() or [""])[0]).name
    except psutil.Error:
        return ""


async def test_nothing_is_left_or_wrong_after_a_random_life_with_deaths(tmp_path: Path) -> None:
    with up(tmp_path, "--servers", "2", "--workers", "2", "--allocators", "2", "--policy", "spread") as fleet:
        async with dropin(fleet) as one, dropin(fleet) as other:
            deaths = _Deaths(fleet, 3 * OPERATIONS // DEATHS, random.Random(7))
            lives = [_Life(worker, seed, deaths.operation) for seed, worker in enumerate((one, one, other), start=1)]
            await asyncio.gather(*(life.run() for life in lives))
            assert (one.died, other.died) == (None, None)
            await eventually(lambda: not fleet.json("ls")["rooms"])
        verified = await asyncio.to_thread(lambda: fleet.mafalda("replay", "--verify", check=False))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    log = (tmp_path / "up.log").read_text()
    assert "Traceback" not in log
