"""Real workers for the driver's tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mafalda.mediasoup import Router, Worker, create_worker
from mafalda.mediasoup.base.events import Emitter
from mafalda.mediasoup.install import find_worker_bin
from tests.conformance.mediasoup.driver_samples import MEDIA_CODECS

Recorder = Callable[..., list[tuple[str, Any]]]


@pytest.fixture(scope="session")
def worker_bin() -> Path:
    """The real worker, or whatever is to be as good as one. Without one these tests have no meaning, so they fail."""
    instead = os.environ.get("MAFALDA_TESTED_WORKER_BIN")
    found = Path(instead) if instead else find_worker_bin()
    if found is None:
        pytest.fail("there is no mediasoup-worker: run `mafalda worker install` (or `make setup`)")
    return found


@pytest.fixture
async def worker(worker_bin: Path) -> AsyncIterator[Worker]:
    async with create_worker(bin=worker_bin, log_level="warn") as worker:
        yield worker


@pytest.fixture
async def other_worker(worker_bin: Path) -> AsyncIterator[Worker]:
    async with create_worker(bin=worker_bin, log_level="warn") as worker:
        yield worker


@pytest.fixture
async def router(worker: Worker) -> Router:
    return await worker.create_router(media_codecs=MEDIA_CODECS)


@pytest.fixture
def record() -> Recorder:
    """``record(emitter, *events)``: a list that grows by ``(event, payload)``."""

    def start(emitter: Emitter, *events: str) -> list[tuple[str, Any]]:
        seen: list[tuple[str, Any]] = []

        def note(event: str) -> Callable[[Any], None]:
            return lambda payload: seen.append((event, payload))

        for event in events:
            emitter.on(event, note(event))
        return seen

    return start
