"""Run an earlier version and this one in one fleet, under media: agents, allocators and clients of both.

    python tools/mixed_versions.py d61ac98

The earlier version is a commit, of which this clone has the files. Both use the same Python packages, and the same
mediasoup-worker. The senders of both are watched by both, so relays go between the versions in both directions; workers
are killed, servers drained, allocators replaced by those of the other version, which then begin with its snapshot. What
fails is raised; the log of each component is kept in the folder that is named first.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixed_participant import CLIP

from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.client.media import make_clip
from mafalda.mediasoup.install.locate import find_worker_bin

HERE = Path(__file__).parent.parent
ROOM = "mixed"
VERSIONS = ("old", "new")
#: Of each step, in seconds: it is about what works, and not how fast.
TIMEOUT_S = 600
#: What no component may log, whatever the others send.
BAD = re.compile(r'"action":"(broken_\w+|snapshot_damaged|snapshot_failed|task_failed)"')
#: What is passed over because it is newer; counted, and printed at the end.
PASSED_OVER = re.compile(r'"action":"((?:entry_)?unreadable\w*)"')


@dataclass
class Fleet:
    """The processes of both versions."""

    folders: dict[str, Path]
    logs: Path
    url: str
    stack: AsyncExitStack
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, version: str, name: str, *command: str, says_ready: bool = True) -> None:
        """Start a component or a participant of a version."""
        log = self.stack.enter_context((self.logs / f"{name}.log").open("ab"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=self.folders[version],
            env=self._environment(version),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        self.running[name] = process
        self.stack.push_async_callback(self.stop, name)
        assert process.stdout
        if says_ready:
            async with asyncio.timeout(TIMEOUT_S):
                assert (await process.stdout.readline()).strip() == b"ready", f"{name} did not start: see {log.name}"
        else:
            reading = asyncio.create_task(self._read(name, process.stdout))
            self.stack.callback(reading.cancel)

    async def _read(self, name: str, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            self.reports[name] = json.loads(line)

    async def stop(self, name: str) -> None:
        """End a process by the end of its standard input."""
        if process := self.running.pop(name, None):
            assert process.stdin
            process.stdin.close()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _environment(self, version: str) -> dict[str, str]:
        folder = str(self.folders[version])
        worker = {"MEDIASOUP_WORKER_BIN": str(find_worker_bin())}
        return {**os.environ, **worker, "PYTHONPATH": folder, "MAFALDA_NATS_URL": self.url}

    async def allocator(self, version: str) -> None:
        """Start the allocator of a version; it writes a snapshot as often as it can."""
        own = ("--policy", "spread", "--snapshot-interval", "1", "--snapshot-min-entries", "1", "--stop-with-stdin")
        await self.start(version, f"allocator-{version}", "-m", "mafalda", "allocator", "--name", version, *own)

    async def agent(self, version: str, server: str | None = None) -> None:
        """Start an agent of a version; its server has the version's name, if it is not named."""
        server = server or version
        own = ("--workers", "1", "--listen-ip", "127.0.0.1", "--drain-grace", "0", "--stop-with-stdin")
        await self.start(version, f"agent-{server}", "-m", "mafalda", "agent", "--server", server, *own)

    async def participant(self, version: str, name: str, clip: str, *watched: str) -> None:
        """Start a peer with the SDK of a version."""
        script = str(HERE / "tools" / "mixed_participant.py")
        await self.start(version, name, script, self.url, ROOM, name, clip, *watched, says_ready=False)

    async def command(self, version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a version."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mafalda", *arguments],
            cwd=self.folders[version],
            env=self._environment(version),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    async def worker_pid(self, server: str) -> int:
        """The process of a server's only worker."""
        servers = json.loads(await self.ok("new", "ls", "--json"))["servers"]
        (pid,) = [worker["pid"] for it in servers if it["server"] == server for worker in it["workers"]]
        return int(pid)

    async def ok(self, version: str, *arguments: str) -> str:
        """The same; what it prints. It has to succeed."""
        done = await self.command(version, *arguments)
        assert done.returncode == 0, f"{version}: mafalda {' '.join(arguments)}: {done.stdout} {done.stderr}"
        return done.stdout

    async def flows(self, step: str, *names: str) -> None:
        """Wait until each participant sees a second more of everybody whom it watches."""
        before = {name: dict(self.reports.get(name, {}).get("frames", {})) for name in names}

        def missing() -> list[str]:
            return [
                f"{name} of {other}"
                for name in names
                for other, frames in self.reports.get(name, {"frames": {"anybody": 0}})["frames"].items()
                if frames < before[name].get(other, 0) + CLIP.frame_rate
            ]

        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                while missing():  # noqa: ASYNC110 - in other processes
                    await asyncio.sleep(0.5)
        assert not missing(), f"{step}: no picture: {missing()}; logs in {self.logs}"
        places = {name: self.reports[name]["server"] for name in names}
        print(f"{step}: everybody sees everybody; {places}", flush=True)

    async def is_clean(self) -> None:
        """Wait until the audits of both versions find nothing."""
        for version in VERSIONS:
            for left in reversed(range(20)):
                done = await self.command(version, "replay", "--verify", "--deadline", "5")
                if done.returncode == 0:
                    break
                assert left, f"{version}: {done.stdout}"
            print(f"replay --verify of {version}: {done.stdout.strip()}", flush=True)


def _extract(reference: str, folder: Path) -> None:
    archive = subprocess.run(["git", "archive", reference], cwd=HERE, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


@asynccontextmanager
async def open_fleet(reference: str, folder: Path) -> AsyncIterator[Fleet]:
    """NATS, and the files of both versions."""
    old = folder / "old"
    await asyncio.to_thread(_extract, reference, old)
    logs = folder / "logs"
    logs.mkdir()
    async with run_server(ServerConfig(port=0)) as server, AsyncExitStack() as stack:
        yield Fleet({"old": old, "new": HERE}, logs, server.url, stack)


async def run(reference: str, folder: Path) -> None:
    """All steps, one after the other."""
    async with open_fleet(reference, folder) as fleet:
        clip = str(await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP))
        for version in VERSIONS:
            await fleet.allocator(version)
        for version in VERSIONS:
            await fleet.agent(version)
        peers = list(VERSIONS)
        for peer, other in (VERSIONS, reversed(VERSIONS)):
            await fleet.participant(peer, peer, clip, other)
        for version in VERSIONS:
            peers.append(f"{version}-viewer")
            await fleet.participant(version, peers[-1], "-", *VERSIONS)
        await fleet.flows("joined", *peers)
        await kill_workers(fleet, peers)
        await drain(fleet, peers)
        await replace_allocators(fleet, peers)
        await fleet.is_clean()
    report_logs(folder / "logs")


async def kill_workers(fleet: Fleet, peers: list[str]) -> None:
    """Kill the worker of each server, one after the other."""
    for version in VERSIONS:
        os.kill(await fleet.worker_pid(version), signal.SIGKILL)
        await fleet.flows(f"worker of the {version} agent killed", *peers)


async def drain(fleet: Fleet, peers: list[str]) -> None:
    """Drain each server, with the command of the other version, and take it back."""
    for version, other in (VERSIONS, reversed(VERSIONS)):
        print((await fleet.ok(other, "drain", version, "--deadline", "60")).splitlines()[-1])
        await fleet.flows(f"{version} server drained by the {other} command", *peers)
        assert {fleet.reports[peer]["server"] for peer in peers} == {other}
        await fleet.ok(other, "drain", version, "--cancel")


async def replace_allocators(fleet: Fleet, peers: list[str]) -> None:
    """Each allocator works alone, and begins with the snapshot that the other one has written."""
    for version, other in (VERSIONS, reversed(VERSIONS)):
        await fleet.stop(f"allocator-{version}")
        await asyncio.sleep(3)  # for a snapshot by the other one, which is alone now
        if other == "old":
            refused = await fleet.command("new", "end-room", "nobody-is-here")
            assert "unknown-type" in refused.stderr + refused.stdout or refused.returncode == 0, refused.stderr
            print(f"end-room, to the old allocator: {(refused.stderr or refused.stdout).strip()}")
        for guest in VERSIONS:
            await fleet.participant(guest, f"{guest}-guest", "-", *VERSIONS)
        await fleet.flows(f"guests of the {other} allocator alone", *peers, *(f"{guest}-guest" for guest in VERSIONS))
        for guest in VERSIONS:
            await fleet.stop(f"{guest}-guest")
            fleet.reports.pop(f"{guest}-guest")
        await fleet.allocator(version)


def report_logs(logs: Path) -> None:
    """Raise if a component logged what none may; print what each passed over."""
    for log in sorted(logs.iterdir()):
        text = log.read_text(errors="replace")
        passed_over = dict(Counter(PASSED_OVER.findall(text)))
        print(f"{log.stem}: {passed_over or 'understood everything'}")
        assert not BAD.search(text), f"{log}: {BAD.findall(text)[:5]}"


if __name__ == "__main__":
    target = Path(tempfile.mkdtemp(prefix="mafalda-mixed-"))
    print(f"logs: {target / 'logs'}", flush=True)
    asyncio.run(run(sys.argv[1], target))
