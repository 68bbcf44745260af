"""Record what a fleet of an earlier version writes and sends, for ``tests/replays``.

    python tools/record_fleet.py d61ac98 v1-fleet

Two agents, an allocator and two peers of that version, under media: joins, producers, relays, the death of a worker, a
drain, leaves. ``.jsonl`` is the log, ``.state.json`` what the present version folds it to, and ``.json`` the newest
snapshot before they left, and some of each kind of message outside the log. ICE passwords and keys are replaced.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import nats
from mixed_participant import CLIP
from mixed_versions import HERE, Fleet, open_fleet
from nats.aio.msg import Msg

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.client.media import make_clip
from mafalda.contract.messages.events import LoadSampled
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.testing.replays import replay

TARGET = HERE / "tests" / "replays"
#: So many messages of a type outside the log are kept, and so many samples of load reports, of which it has most.
SAMPLES = 2
_SAMPLE = f".event.{LoadSampled.action}"
_PASSWORD, _KEY = re.compile(r'("password":\s*)"[^"]*"'), re.compile(r'("keyBase64":\s*)"[^"]*"')
#: As long as a key and a salt of AEAD_AES_256_GCM.
_NO_KEY = base64.b64encode(bytes(44)).decode()


class Outside:
    """Messages outside the log: load reports, requests between agents, queries, and what goes to inboxes."""

    def __init__(self) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {}

    async def take(self, message: Msg) -> None:
        """Keep a message if few of its type are kept."""
        if message.subject.startswith(("live.", "$")):
            return
        try:
            event = json.loads(message.data)
        except ValueError:
            return
        if not isinstance(event, dict) or "specversion" not in event:
            return
        kept = self.kept.setdefault(event["type"], [])
        if len(kept) < SAMPLES:
            kept.append({"subject": message.subject, "message": event})


async def record(reference: str, name: str, folder: Path) -> None:
    """Run the fleet, and write the files."""
    async with open_fleet(reference, folder) as fleet:
        client = await nats.connect(fleet.url)
        outside = Outside()
        await client.subscribe(">", cb=outside.take)
        async with connect(BusConfig(servers=(fleet.url,))) as bus:
            await session(fleet, folder)
            found = {it: await bus.snapshots.get(it) for it in await bus.snapshots.names()}
            for peer in ("bob", "alice"):
                await fleet.stop(peer)
            entries = [entry async for entry in bus.read(*LOG_SUBJECTS)]
        await client.close()
    stored = {json.loads(entry.data)["id"] for entry in entries}
    lines: list[dict[str, Any]] = []
    samples = 0
    for entry in entries:
        samples += entry.subject.endswith(_SAMPLE)
        if samples <= SAMPLES or not entry.subject.endswith(_SAMPLE):
            lines.append({"seq": entry.seq, "subject": entry.subject, "message": json.loads(entry.data)})
    others = [it for kept in outside.kept.values() for it in kept if it["message"]["id"] not in stored]
    snapshot = {it: base64.b64encode(value.data).decode() for it, value in found.items() if value}
    log = TARGET / f"{name}.jsonl"
    log.write_text("".join(f"{_without_secrets(line)}\n" for line in lines))
    log.with_suffix(".json").write_text(_without_secrets({"snapshot": snapshot, "messages": others}, indent=1) + "\n")
    state = replay(log).to_json_dict()
    log.with_suffix(".state.json").write_text(json.dumps(state, indent=1) + "\n")
    print(f"{len(lines)} entries, {len(others)} other messages, {len(snapshot)} objects of snapshots")


def _without_secrets(value: object, indent: int | None = None) -> str:
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators)
    return _KEY.sub(rf'\1"{_NO_KEY}"', _PASSWORD.sub(r'\1"secret"', text))


async def session(fleet: Fleet, folder: Path) -> None:
    """What the peers go through before they leave."""
    clip = str(await asyncio.to_thread(make_clip, folder / "clip.webm", CLIP))
    await fleet.allocator("old")
    for server in ("s1", "s2"):
        await fleet.agent("old", server)
    await fleet.participant("old", "alice", clip, "bob")
    await fleet.participant("old", "bob", clip, "alice")
    await fleet.flows("joined", "alice", "bob")
    pid = await fleet.worker_pid(fleet.reports["bob"]["server"])
    os.kill(pid, signal.SIGKILL)
    await fleet.flows("worker killed", "alice", "bob")
    await fleet.ok("old", "drain", fleet.reports["alice"]["server"], "--deadline", "60")
    await fleet.flows("drained", "alice", "bob")
    await asyncio.sleep(2)  # for a snapshot of all that


if __name__ == "__main__":
    version, recording = sys.argv[1:]
    asyncio.run(record(version, recording, Path(tempfile.mkdtemp(prefix="mafalda-record-"))))
