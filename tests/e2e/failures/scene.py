"""A call on a real fleet, what its viewers see while something fails, and the audit afterwards.

The goals of gaps are printed beside what was measured. Tests assert wider bounds: machines are shared.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil

from mafalda.bus.config import BusConfig, server_urls
from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.nats.bus import connect as connect_bus
from mafalda.client import Producer, Room, connect
from mafalda.client.media import make_clip, open_playback
from mafalda.errors import MafaldaError
from mafalda.monitor.audit.collect import audit
from mafalda.monitor.replay import current_state
from mafalda.projection.state import State
from tests.e2e.conftest import Up
from tests.e2e.watched_clip import AUDIO, CLIP, RECOVERY_TIMEOUT_S, VIDEO, Viewer, watching

#: Seconds without a picture: the goal, and what fails a test.
WORKER_GOAL_S, WORKER_LIMIT_S = 1.0, 15.0
SERVER_GOAL_S, SERVER_LIMIT_S = 5.0, 30.0
#: What a viewer whom nothing concerns may miss on a machine that is busy with other things.
OTHERS_LIMIT_S = 4.0
#: What has waited for longer when everything is over is a finding.
AUDIT_DEADLINE_S = 5.0


@dataclass(slots=True)
class Call:
    """A publisher and its viewers in one room."""

    name: str
    sender: Room
    video: Producer
    audio: Producer
    viewers: list[Viewer] = field(default_factory=list)

    @property
    def rooms(self) -> list[Room]:
        return [self.sender, *(viewer.room for viewer in self.viewers)]

    async def see_more(self, frames: int = CLIP.frame_rate, *, but: Iterable[Viewer] = ()) -> None:
        """Wait until each viewer has decoded so many more frames."""
        left_out = list(but)
        await asyncio.gather(*(viewer.sees_more(frames) for viewer in self.viewers if viewer not in left_out))

    def begin_measuring(self) -> None:
        """Forget gaps so far."""
        for viewer in self.viewers:
            viewer.probe.report.longest_gap_s = 0.0

    def elsewhere(self) -> Viewer:
        """A viewer on another worker than the publisher."""
        return next(viewer for viewer in self.viewers if viewer.room.worker != self.sender.worker)

    def on_worker(self, worker: str) -> list[Viewer]:
        """The viewers that a worker's end concerns: those on it, or all if the publisher is there."""
        if self.sender.worker == worker:
            return list(self.viewers)
        return [viewer for viewer in self.viewers if viewer.room.worker == worker]

    def on_server(self, server: str) -> list[Viewer]:
        """The same for a server's end."""
        if self.sender.server == server:
            return list(self.viewers)
        return [viewer for viewer in self.viewers if viewer.room.server == server]

    def others(self, affected: Iterable[Viewer]) -> list[Viewer]:
        """The viewers that are not among these."""
        left_out = list(affected)
        return [viewer for viewer in self.viewers if viewer not in left_out]


@asynccontextmanager
async def open_call(url: str, folder: Path, *, viewers: int = 2, room: str | None = None) -> AsyncIterator[Call]:
    """A call whose viewers all see the picture."""
    name = room or f"call-{uuid4().hex[:6]}"
    clip = await asyncio.to_thread(make_clip, folder / f"{name}.webm", CLIP)
    async with AsyncExitStack() as stack:
        playback = await stack.enter_async_context(open_playback(clip, loop=True))
        client = await stack.enter_async_context(connect(url))
        sender = await stack.enter_async_context(client.join(name, "sender"))
        assert playback.video
        assert playback.audio
        video, audio = await sender.produce(playback.video, id=VIDEO), await sender.produce(playback.audio, id=AUDIO)
        call = Call(name, sender, video, audio)
        for number in range(viewers):
            call.viewers.append(await stack.enter_async_context(watching(url, name, f"viewer-{number + 1}")))
        await call.see_more(5)
        yield call


# --- the fleet -----------------------------------------------------------------------------------------


@asynccontextmanager
async def open_view(url: str) -> AsyncIterator[NatsBus]:
    """A connection to look at the fleet with."""
    config = BusConfig(servers=server_urls(url), name="observer", connect_timeout_s=60)
    async with connect_bus(config) as bus:
        yield bus


async def fleet_state(url: str) -> State:
    """The state by the log."""
    async with open_view(url) as bus:
        return await current_state(bus)


async def worker_pids(url: str) -> dict[str, int]:
    """The process of each living worker."""
    state = await fleet_state(url)
    return {name: worker.pid for server in state.servers.values() for name, worker in server.workers.items()}


async def count_lost_servers(url: str) -> int:
    """How many servers were ever declared lost."""
    async with open_view(url) as bus:
        return len([entry async for entry in bus.read("mafalda.server.*.event.server-lost")])


async def is_clean(url: str, *, timeout_s: float = RECOVERY_TIMEOUT_S) -> None:
    """Wait until an audit of the fleet finds nothing; what it still finds in the end fails the test."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        with suppress(MafaldaError):
            async with open_view(url) as bus:
                found = (await audit(bus, deadline_s=AUDIT_DEADLINE_S)).findings
            if not found:
                return
            assert asyncio.get_running_loop().time() < deadline, [str(one.what) for one in found]
        assert asyncio.get_running_loop().time() < deadline, "the fleet cannot be audited"
        await asyncio.sleep(1)


@asynccontextmanager
async def stopped(*pids: int) -> AsyncIterator[None]:
    """SIGSTOP processes while the block runs, and SIGCONT them after it."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def agent_pid(running: Up, server: str) -> int:
    """The present process of a server's agent, which may have been started again since."""
    for process in running.family():
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[3:6] == ["agent", "--server", server]:
                return process.pid
    raise AssertionError(f"no agent of {server} runs")


# --- what was measured -----------------------------------------------------------------------------------


def longest_gap_s(viewers: Iterable[Viewer]) -> float:
    """The longest time without a new frame of any of these."""
    return max((viewer.probe.report.longest_gap_s for viewer in viewers), default=0.0)


def measured(
    scenario: str,
    *,
    others: Iterable[Viewer],
    affected: Iterable[Viewer] = (),
    goal_s: float = 0,
    limit_s: float | None = None,
) -> None:
    """Record the gaps of a scenario, and assert that they are bearable.

    Args:
        scenario: What failed.
        others: Whom it does not concern.
        affected: Whom it concerns; nobody: nobody may notice it.
        goal_s: How long those should be without a picture at most, in seconds.
        limit_s: How long they may be, in seconds; ``None``: nobody is affected.
    """
    affected_s, others_s = longest_gap_s(affected), longest_gap_s(others)
    record(scenario, affected_s=round(affected_s, 2), goal_s=goal_s, others_s=round(others_s, 2))
    if limit_s is not None:
        assert affected_s < limit_s, f"{scenario}: {affected_s:.1f} s without a picture"
    assert others_s < OTHERS_LIMIT_S, (
        f"{scenario}: {others_s:.1f} s without a picture for those whom it does not concern"
    )


def record(scenario: str, **figures: object) -> None:
    """Add a line to the report of this run: ``MAFALDA_CHAOS_REPORT`` names the file; without it, to standard output."""
    line = json.dumps({"scenario": scenario, **figures})
    if report := os.environ.get("MAFALDA_CHAOS_REPORT"):
        with Path(report).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    print(line)
