"""What a fleet of an earlier version has written and sent is understood and obeyed by the present one.

Recorded by ``tools/record_fleet.py``; that its log gives the state that it gave is tested with the other replays.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.state.fold import fold_entry
from mafalda.allocator.core.state.log_entry import read_entry, read_load
from mafalda.allocator.core.state.snapshot import restore
from mafalda.allocator.core.state.view import View
from mafalda.bus.protocol import SnapshotObject
from mafalda.contract.messages import commands, events, intents
from mafalda.contract.messages.envelope import decode
from mafalda.contract.subjects import parse
from mafalda.snapshot.format import Snapshot
from mafalda.snapshot.store import read_snapshot
from mafalda.testing.memory_bus import MemoryBus
from mafalda.workers.core import Machine
from mafalda.workers.core.instructions import AdoptPeer, Entry, HandleIntent, LoadRoom, OpenRelayTarget, RefuseRelay
from mafalda.workers.core.stimuli import EntryRead, PeerReady, RoomLoaded, WorkerGone, WorkerUp

REPLAYS = Path(__file__).parents[2] / "replays"
LOG = [json.loads(line) for line in (REPLAYS / "v1-fleet.jsonl").read_text().splitlines()]
OTHERS: dict[str, Any] = json.loads((REPLAYS / "v1-fleet.json").read_text())
#: Intents that an allocator takes part in: an agent sees a join as a command.
JOIN = intents.Join.action


def raw(line: dict[str, Any]) -> bytes:
    return json.dumps(line["message"]).encode()


def entries() -> list[Entry]:
    """The log, decoded."""
    found = []
    for line in LOG:
        address = parse(line["subject"])
        assert address is not None, line["subject"]
        found.append(Entry(line["seq"], address, decode(raw(line))))
    return found


@pytest.mark.parametrize("line", [*LOG, *OTHERS["messages"]], ids=lambda line: line["message"]["type"])
def test_each_message_is_decoded_with_all_that_it_says(line: dict[str, Any]) -> None:
    message = decode(raw(line))
    assert message.data.type_name() == line["message"]["type"]
    assert missing(line["message"]["data"], message.data.to_json_dict()) == []


def missing(recorded: Any, seen: Any, where: str = "data") -> list[str]:
    """What was recorded and is not there any more, by path; ``null`` is the same as nothing."""
    if isinstance(recorded, dict) and isinstance(seen, dict):
        return [
            lost
            for key, value in recorded.items()
            if value is not None
            for lost in (missing(value, seen[key], f"{where}.{key}") if key in seen else [f"{where}.{key}"])
        ]
    if isinstance(recorded, list) and isinstance(seen, list) and len(recorded) == len(seen):
        pairs = enumerate(zip(recorded, seen, strict=True))
        return [lost for number, (was, now) in pairs for lost in missing(was, now, f"{where}[{number}]")]
    return [] if recorded == seen else [f"{where}: {recorded!r} became {seen!r}"]


async def recorded_snapshot() -> Snapshot:
    bus = MemoryBus()
    for version, (name, data) in enumerate(OTHERS["snapshot"].items(), 1):
        bus.broker.snapshots[name] = SnapshotObject(name, base64.b64decode(data), version)
    snapshot = await read_snapshot(bus)
    assert snapshot is not None
    return snapshot


async def test_an_allocator_goes_on_from_the_snapshot_and_from_the_log_alike() -> None:
    snapshot = await recorded_snapshot()
    whole, restored = View(AllocatorConfig()), View(AllocatorConfig())
    restore(restored, snapshot.seq, snapshot.fleet, snapshot.rooms, now=0.0)
    assert 0 < snapshot.seq <= LOG[-1]["seq"]
    for line in LOG:
        entry = read_entry(line["seq"], line["subject"], raw(line))
        assert entry is not None
        assert entry.seq == line["seq"]
        fold_entry(whole, entry, now=0.0)
        if line["seq"] > snapshot.seq:
            fold_entry(restored, entry, now=0.0)
    assert restored.state == whole.state
    assert list(restored.open_intents) == list(whole.open_intents) == [], "each intent has its result"
    assert {key: len(worker.state.peers) for key, worker in restored.fleet.workers.items()} == {
        key: len(worker.state.peers) for key, worker in whole.fleet.workers.items()
    }


def test_an_allocator_takes_the_load_reports() -> None:
    view = View(AllocatorConfig())
    for line in LOG:
        if entry := read_entry(line["seq"], line["subject"], raw(line)):
            fold_entry(view, entry, now=0.0)
    reports = [line for line in OTHERS["messages"] if line["message"]["type"] == "mafalda.report.server-load.v1"]
    assert reports
    for line in reports:
        _, load = read_load(line["subject"], raw(line))
        assert view.report(load, 0.0) == (load.server in view.state.servers)


def test_agents_do_what_was_commanded_and_asked_for() -> None:
    log = entries()
    servers = {it.message.data.server for it in log if isinstance(it.message.data, events.ServerStarted)}
    assert len(servers) == 2
    handled: set[str] = set()
    for server in servers:
        done = obey(server, log)
        ordered = [it.message.data for it in log if it.address.kind == "command" and it.address.server == server]
        placed = {(it.peer, it.generation) for it in ordered if isinstance(it, commands.PlacePeer)}
        relays = [it.producer for it in ordered if isinstance(it, commands.OpenRelay)]
        assert placed == {(it.command.peer, it.command.generation) for it in done if isinstance(it, AdoptPeer)}
        assert relays == [it.key.producer for it in done if isinstance(it, OpenRelayTarget)]
        assert not [it for it in done if isinstance(it, RefuseRelay)]
        handled |= {it.entry.message.id for it in done if isinstance(it, HandleIntent)}
    wanted = {it.message.id for it in log if it.address.kind == "intent" and it.address.action != JOIN}
    assert handled == wanted


def obey(server: str, log: list[Entry]) -> list[Any]:
    """What the agent of a server is told to do, when it reads the log and all of it succeeds at once."""
    started = next(
        it.message.data
        for it in log
        if isinstance(it.message.data, events.ServerStarted) and it.message.data.server == server
    )
    machine = Machine(server, started.incarnation, [it.worker for it in started.workers])
    done: list[Any] = []
    for number, entry in enumerate(log):
        waiting: list[Any] = [EntryRead(entry)]
        match entry.message.data:
            case events.WorkerDied() as died if died.server == server:
                waiting.insert(0, WorkerGone(died.worker))
            case events.WorkerStarted() as up if up.server == server:
                waiting.insert(0, WorkerUp(up.worker.worker))
        while waiting:
            for instruction in machine.handle(waiting.pop(0)):
                done.append(instruction)
                if isinstance(instruction, LoadRoom):
                    past = [
                        it for it in log[: number + 1] if it.address.room == instruction.room and not it.address.peer
                    ]
                    waiting.append(RoomLoaded(instruction.room, past, entry.seq))
                elif isinstance(instruction, AdoptPeer):
                    command = instruction.command
                    waiting.append(PeerReady(command.room, command.peer, command.generation))
    return done
