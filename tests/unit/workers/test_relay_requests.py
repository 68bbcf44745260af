"""Requests of relays: batches of limited size, and a failed append that loses none for good."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.contract.messages.events import RelaysRequested
from mafalda.errors import MessageTooLarge
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.relays import requests
from mafalda.workers.relays.requests import MAX_PRODUCERS, RelayRequests

KEYS = [RelayKey("lobby", f"mic-{number}", "w1") for number in range(MAX_PRODUCERS + 1)]


@dataclass
class Log:
    """Takes requests, but for the first so many."""

    failures: int = 0
    batches: list[list[str]] = field(default_factory=list)

    async def append(self, event: RelaysRequested, subject: str) -> int:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise MessageTooLarge("too large")
        self.batches.append(event.producers)
        return len(self.batches)


async def test_a_request_has_a_limit_and_a_failed_one_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RETRY_S", 0.0)
    failed: list[Exception] = []
    log = Log(failures=1)
    is_all = asyncio.Event()

    async with open_tasks(lambda _, error: failed.append(error)) as tasks:

        def again(key: RelayKey) -> None:
            if not is_all.is_set():
                needed.need(key)
            if sum(map(len, log.batches)) >= len(KEYS):
                is_all.set()

        needed = RelayRequests("s1", "i1", tasks, log, again)  # type: ignore[arg-type]
        for key in KEYS:
            needed.need(key)
        async with asyncio.timeout(10):
            await is_all.wait()
    assert len(failed) == 1
    assert {producer for batch in log.batches for producer in batch} == {key.producer for key in KEYS}
    assert all(len(batch) <= MAX_PRODUCERS for batch in log.batches)
