"""Snapshots are whole or not there: damage, writers that meet, and writers that die on the way."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from mafalda.errors import BusUnavailable, MafaldaError
from mafalda.snapshot.format import PIECE_BYTES, SnapshotDamaged
from mafalda.snapshot.retention import discard_covered, set_archived
from mafalda.snapshot.store import (
    MANIFEST,
    SnapshotMissing,
    newest_manifest,
    read_fleet,
    read_room,
    read_snapshot,
    write_snapshot,
)
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus, MemorySnapshots

OTHER_FORMAT = b'{"format": 99, "seq": 1, "token": "t", "parts": [{"sha256": "", "pieces": 1}], "rooms": 0}'
SUBJECT = "mafalda.room.lobby.event.relay-opened"


def rooms(count: int, size: int = 10) -> dict[str, bytes]:
    return {f"r{i}": orjson.dumps({"room": f"r{i}", "peers": ["x" * size]}) for i in range(count)}


def names_of(found: Any) -> set[str]:
    return {room["room"] for room in found.rooms}


@pytest.fixture
def bus() -> MemoryBus:
    bus = MemoryBus()
    for _ in range(500):
        bus.broker.store(SUBJECT, b"{}", {})
    return bus


async def write(bus: MemoryBus, seq: int, count: int = 20, size: int = 10) -> None:
    assert await write_snapshot(bus, seq, {"servers": [seq]}, rooms(count, size))


async def test_what_was_written_is_read(bus: MemoryBus) -> None:
    await write(bus, 100, 30, size=100_000)  # several parts
    found = await read_snapshot(bus)
    assert found is not None
    assert (found.seq, found.fleet, names_of(found)) == (100, {"servers": [100]}, set(rooms(30)))
    manifest = await newest_manifest(bus)
    assert manifest is not None
    assert len(manifest.parts) > 4
    assert await read_room(bus, "r7") == (100, {"room": "r7", "peers": ["x" * 100_000]})
    assert await read_room(bus, "none") == (100, None)
    fleet = await read_fleet(bus)
    assert fleet is not None
    assert fleet.fleet == {"servers": [100]}


async def test_without_rooms(bus: MemoryBus) -> None:
    await write(bus, 100, 0)
    assert await read_room(bus, "r7") == (100, None)
    found = await read_snapshot(bus)
    assert found is not None
    assert found.rooms == []


async def test_without_a_snapshot_the_log_has_everything(bus: MemoryBus) -> None:
    assert await read_snapshot(bus) is None
    assert await read_room(bus, "r1") == (0, None)


async def test_an_older_one_is_not_written(bus: MemoryBus) -> None:
    await write(bus, 100)
    assert await write_snapshot(bus, 100, {}, {}) is None
    assert await write_snapshot(bus, 99, {}, {}) is None


async def test_the_last_two_are_kept(bus: MemoryBus) -> None:
    for seq in (100, 200, 300):
        await write(bus, seq)
    assert {name.partition(".")[0] for name in await bus.snapshots.names()} == {MANIFEST, "200", "300"}


async def test_writers_at_the_same_entry_do_not_damage_each_other(bus: MemoryBus) -> None:
    """Their parts differ, since their rooms are in another order."""
    both = [rooms(5), dict(reversed(rooms(5).items()))]
    for seq in range(100, 120):
        written = await asyncio.gather(*(write_snapshot(bus, seq, {"servers": []}, it) for it in both))
        assert sum(it is not None for it in written) == 1
        found = await read_snapshot(bus)
        assert found is not None
        assert found.seq == seq
    prefixes = {tuple(name.split(".")[:2]) for name in await bus.snapshots.names() if name != MANIFEST}
    assert len(prefixes) == 2, "the loser has removed its parts"


async def test_what_does_not_fit_into_a_message_is_cut(bus: MemoryBus) -> None:
    """A room of hundreds who all hear each other, and idle rooms with random names."""
    noise = random.Random(5)
    idle = {noise.randbytes(20).hex(): [1, 1] for _ in range(60_000)}
    large = {"room": "large", "peers": [noise.randbytes(20).hex() for _ in range(60_000)]}
    assert await write_snapshot(bus, 100, {"servers": [], "idleRooms": idle}, {"large": orjson.dumps(large)})
    assert max(len(it.data) for it in bus.broker.snapshots.values()) <= PIECE_BYTES
    assert await read_room(bus, "large") == (100, large)
    found = await read_snapshot(bus)
    assert found is not None
    assert found.fleet["idleRooms"] == idle


async def test_of_several_writers_one_wins_and_all_is_whole(bus: MemoryBus) -> None:
    written = await asyncio.gather(*(write_snapshot(bus, 100 + i, {"servers": [i]}, rooms(5)) for i in range(5)))
    assert sum(it is not None for it in written) == 1
    found = await read_snapshot(bus)
    assert found is not None
    assert names_of(found) == set(rooms(5))


@pytest.mark.parametrize("part", [0, 1])
async def test_a_damaged_one_is_passed_over_loudly(
    bus: MemoryBus, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    await write(bus, 100)
    await write(bus, 200)
    manifest = await newest_manifest(bus)
    assert manifest is not None
    await bus.snapshots.put(manifest.piece_names(part)[0], b"something else")
    found = await read_snapshot(bus)
    assert found is not None
    assert found.seq == 100
    assert "snapshot_damaged" in capsys.readouterr().out


async def test_a_missing_part_is_damage(bus: MemoryBus) -> None:
    await write(bus, 100)
    manifest = await newest_manifest(bus)
    assert manifest is not None
    await bus.snapshots.delete(manifest.piece_names(1)[0])
    assert await read_snapshot(bus) is None, "the log has everything"
    bus.broker.purge(before_seq=50)
    with pytest.raises(SnapshotMissing):
        await read_snapshot(bus)


@pytest.mark.parametrize("raw", [b"", b"{}", OTHER_FORMAT])
async def test_a_manifest_that_cannot_be_read_is_damage(bus: MemoryBus, raw: bytes) -> None:
    await bus.snapshots.put(MANIFEST, raw)
    assert await read_snapshot(bus) is None
    await write(bus, 100)
    found = await read_snapshot(bus)
    assert found is not None, "the next one replaces it"


async def test_a_writer_that_dies_on_the_way_leaves_the_last_one(bus: MemoryBus) -> None:
    await write(bus, 100)
    bus.snapshots = DyingSnapshots(bus.broker, writes=1)
    with pytest.raises(BusUnavailable):
        await write_snapshot(bus, 200, {}, rooms(20))
    bus.snapshots = MemorySnapshots(bus.broker)
    found = await read_snapshot(bus)
    assert found is not None
    assert found.seq == 100
    await write(bus, 300)
    await write(bus, 400)
    left = [name for name in await bus.snapshots.names() if name.startswith("200.")]
    assert left == [], "what it left is removed"


async def test_one_that_is_replaced_while_it_is_read_is_read_again(bus: MemoryBus) -> None:
    await write(bus, 100)
    bus.snapshots = ReplacingSnapshots(bus)
    found = await read_snapshot(bus)
    assert found is not None
    assert found.seq == 400


# --- retention ------------------------------------------------------------------------------------


async def test_nothing_is_discarded_that_no_snapshot_covers(bus: MemoryBus) -> None:
    assert await discard_covered(bus, max_age_s=0, max_bytes=1) == 1
    await write(bus, 200)
    assert await discard_covered(bus, max_age_s=0, max_bytes=1) == 1, "should the newest be damaged, all is needed"
    await write(bus, 400)
    assert await discard_covered(bus, max_age_s=0, max_bytes=1) == 201
    assert (await bus.log_usage()).first_seq == 201


async def test_nothing_is_discarded_that_only_a_damaged_snapshot_covers(bus: MemoryBus) -> None:
    await write(bus, 200)
    manifest = await newest_manifest(bus)
    assert manifest is not None
    await write(bus, 400)
    await bus.snapshots.delete(manifest.piece_names(0)[0])
    with pytest.raises(SnapshotDamaged):
        await discard_covered(bus, max_age_s=0, max_bytes=1)
    assert bus.broker.first_seq == 1
    await write(bus, 450)
    assert await discard_covered(bus, max_age_s=0, max_bytes=1) == 401


async def test_nothing_is_discarded_that_is_young_and_little(bus: MemoryBus) -> None:
    await write(bus, 200)
    await write(bus, 400)
    assert await discard_covered(bus, max_age_s=3600, max_bytes=10**9) == 1
    assert await discard_covered(bus, max_age_s=None, max_bytes=None) == 1


async def test_a_log_that_is_too_large_loses_its_beginning(bus: MemoryBus) -> None:
    await write(bus, 400)
    await write(bus, 450)
    assert await discard_covered(bus, max_age_s=None, max_bytes=(await bus.log_usage()).bytes // 2) == 251


async def test_entries_up_to_an_age_are_discarded(bus: MemoryBus) -> None:
    await write(bus, 400)
    await write(bus, 450)
    at = bus.broker.stored_at
    at[:300] = [it.replace(year=it.year - 1) for it in at[:300]]
    assert await discard_covered(bus, max_age_s=3600, max_bytes=None) == 301


async def test_what_is_not_archived_is_kept(bus: MemoryBus) -> None:
    await write(bus, 400)
    await write(bus, 450)
    await set_archived(bus, 150)
    assert await discard_covered(bus, max_age_s=0, max_bytes=None) == 151


async def test_a_bus_that_is_away_discards_nothing(bus: MemoryBus) -> None:
    with bus.broker.down(), pytest.raises(MafaldaError):
        await discard_covered(bus, max_age_s=0, max_bytes=None)
    assert bus.broker.first_seq == 1


class DyingSnapshots(MemorySnapshots):
    """Fails after so many writes."""

    def __init__(self, broker: MemoryBroker, writes: int) -> None:
        super().__init__(broker)
        self._left = writes

    async def put(self, name: str, data: bytes, *, last_version: int | None = None) -> int:
        self._left -= 1
        if self._left < 0:
            raise BusUnavailable("gone")
        return await super().put(name, data, last_version=last_version)


class ReplacingSnapshots(MemorySnapshots):
    """Another writer replaces the snapshot as soon as its manifest was read."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus.broker)
        self._is_replaced = False

    async def get(self, name: str) -> Any:
        found = await super().get(name)
        if name == MANIFEST and not self._is_replaced:
            self._is_replaced = True
            other = MemoryBus(self._broker)
            for seq in (200, 300, 400):
                await write(other, seq)
        return found
