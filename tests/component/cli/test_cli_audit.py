"""``mafalda audit`` and ``replay --verify`` as an operator runs them, on a real log."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mafalda.bus.nats.bus import NatsBus
from mafalda.monitor.audit.finding import CODES
from mafalda.testing.builders import message
from mafalda.testing.stories import Story


async def run(nats_url: str, *arguments: str) -> tuple[int | None, str]:
    """Exit code and standard output of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mafalda",
        *arguments,
        "--nats-url",
        nats_url,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def store(bus: NatsBus, story: Story) -> None:
    for seq, subject, payload in story.entries:
        await bus.append(subject, message(payload, id=f"m{seq}", subject=subject))


async def test_a_peer_that_never_joined_is_found_with_its_time_and_what_to_do(
    no_leaked_tasks: None, nats_url: str, nats_bus: NatsBus
) -> None:
    """The server has ended by the log, so that no agent has to answer; the place was given on another one before."""
    assert await run(nats_url, "audit") == (0, "as of 0: nothing found\n")
    await store(nats_bus, Story().server_starts("s1", "s1-a").joins("alice", "s1-a").server_is_lost("s1"))
    assert (await run(nats_url, "audit"))[0] == 0, "it has not waited for long enough"

    code, printed = await run(nats_url, "audit", "--deadline", "0", "--json")
    told: dict[str, Any] = json.loads(printed)
    (found,) = told["findings"]
    assert (code, told["ok"], told["seq"]) == (1, False, 4)
    assert (found["code"], found["peer"], found["sinceSeq"]) == ("peer-unplaced", "alice", 4)
    assert found["since"].startswith((await nats_bus.stored_at(4)).isoformat()[:19])

    code, printed = await run(nats_url, "audit", "--deadline", "0")
    assert code == 1
    assert f"peer-unplaced: {CODES['peer-unplaced']}" in printed

    code, printed = await run(nats_url, "replay", "--verify", "--deadline", "0", "--json")
    verdict = json.loads(printed)
    assert (code, verdict["ok"], verdict["differences"]) == (1, False, [])
    assert [it["code"] for it in verdict["findings"]] == ["peer-unplaced"]
