"""The archive follows the log, in a folder, in memory and in a real S3 API."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mafalda.archive.errors import ArchiveDamaged, ArchiveGap, ArchiveUnavailable
from mafalda.archive.history import read_history, state_before
from mafalda.archive.segment import Span
from mafalda.archive.store import Archive, open_archive
from mafalda.archive.writer import ArchiveConfig, ArchiveWriter, run_archive
from mafalda.bus.protocol import Delivery
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.monitor.records import read_lines, record
from mafalda.monitor.replay import apply_record
from mafalda.projection.state import State
from mafalda.snapshot.retention import ARCHIVE
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus

R1, R2 = "mafalda.room.r1.event.relay-opened", "mafalda.room.r2.event.relay-opened"
CONFIG = ArchiveConfig(segment_entries=10, interval_s=0.01)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a bucket on an S3 API."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="us-east-1").create_bucket(
            Bucket="archive"
        )
        yield "s3://archive"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "archive")
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}/mafalda"


class Log:
    """A log in memory, filled by hand."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker)
        self.stored: list[Delivery] = []

    def fill(self, count: int) -> None:
        for _ in range(count):
            seq = len(self.stored) + 1
            subject = (R1, R2)[seq % 2]
            data = b'{"id":"m%d","time":"%s"}' % (seq, (START + timedelta(minutes=seq)).isoformat().encode())
            self.broker.store(subject, data, {})
            self.stored.append(Delivery(subject, data, seq))


async def writer(log: Log, archive: Archive) -> ArchiveWriter:
    opened = ArchiveWriter(log.bus, archive, CONFIG)
    await opened.open()
    return opened


async def archived(archive: Archive, spans: list[Span]) -> None:
    """Return once the archive has these segments."""
    while archive.spans() != spans:  # noqa: ASYNC110 - the writer is another process for whoever reads
        await asyncio.sleep(0.01)  # the folder is looked at again; the test's deadline ends the loop


def plain(entries: list[Delivery]) -> list[Delivery]:
    return [Delivery(it.subject, it.data, it.seq) for it in entries]


async def history(log: Log | None, archive: Archive | None, *patterns: str, **bounds: object) -> list[Delivery]:
    bus = log.bus if log else None
    return plain([it async for it in read_history(bus, archive, *patterns or LOG_SUBJECTS, **bounds)])  # type: ignore[arg-type]


async def test_archive_and_log_are_read_as_one(url: str) -> None:
    log, archive = Log(), open_archive(url)
    log.fill(35)
    await (await writer(log, archive)).write_complete()
    assert archive.spans() == [Span(1, 10), Span(11, 20), Span(21, 30)]
    assert await history(None, archive) == log.stored[:30]
    assert await history(log, archive) == log.stored
    assert await history(log, archive, after_seq=17, up_to_seq=33) == log.stored[17:33]
    assert await history(log, archive, after_seq=31) == log.stored[31:]
    assert await history(log, archive, up_to_seq=20) == log.stored[:20]
    assert await history(log, archive, "mafalda.room.r2.event.*") == [it for it in log.stored if it.subject == R2]
    assert await history(log, None) == log.stored


async def test_segments_before_a_time_are_not_read(url: str) -> None:
    log, archive = Log(), open_archive(url)
    log.fill(35)
    await (await writer(log, archive)).write_complete()
    assert await history(log, archive, since=START + timedelta(minutes=20)) == log.stored[10:]
    assert await history(log, archive, since=START + timedelta(minutes=21)) == log.stored[20:]
    assert await history(log, archive, since=START + timedelta(days=9)) == log.stored[30:]


async def test_it_goes_on_where_it_ended(url: str) -> None:
    log = Log()
    log.fill(15)
    assert [it.span for it in await (await writer(log, open_archive(url))).write_complete()] == [Span(1, 10)]
    log.fill(10)
    again = await writer(log, open_archive(url))
    assert again.archived == 10
    assert [it.span for it in await again.write_all()] == [Span(11, 20), Span(21, 25)]
    assert await history(None, open_archive(url)) == log.stored


@pytest.mark.parametrize("seq", [0, 9, 10, 15, 20, 34])
async def test_a_replay_begins_with_the_checkpoint_before(url: str, seq: int) -> None:
    log, archive = Log(), open_archive(url)
    with (Path(__file__).parents[2] / "replays" / "v1-story.jsonl").open("rb") as lines:
        for line in read_lines(lines):
            log.broker.store(line.subject, line.raw, {})
    whole = [record(it) async for it in log.bus.read(*LOG_SUBJECTS, up_to_seq=seq)]
    first = await writer(log, archive)
    await first.write_complete()
    log.broker.store(R1, b"not JSON", {})
    await (await writer(log, archive)).write_all()
    state = state_before(archive, seq=seq, at=None)
    assert state.seq == seq // 10 * 10
    async for delivery in read_history(log.bus, archive, *LOG_SUBJECTS, after_seq=state.seq, up_to_seq=seq):
        apply_record(state, record(delivery))
    expected = State()
    for entry in whole:
        apply_record(expected, entry)
    assert state.to_json_dict() == expected.to_json_dict()


async def test_a_replay_by_time_begins_before_it(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(35)
    await (await writer(log, archive)).write_complete()
    assert state_before(archive, seq=None, at=START + timedelta(minutes=20)).seq == 10
    assert state_before(archive, seq=None, at=START + timedelta(minutes=21)).seq == 20
    assert state_before(archive, seq=None, at=START - timedelta(minutes=1)).seq == 0


async def test_a_changed_checkpoint_is_an_error(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(10)
    await (await writer(log, archive)).write_complete()
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveDamaged, match="checkpoint"):
        state_before(archive, seq=None, at=None)


async def test_writers_with_other_sizes_do_not_overlap(url: str) -> None:
    log = Log()
    log.fill(60)
    small = await writer(log, open_archive(url))
    large = ArchiveWriter(log.bus, open_archive(url), ArchiveConfig(segment_entries=25))
    await large.open()
    await asyncio.gather(small.write_complete(), large.write_complete())
    await large.write_all()
    assert await history(None, open_archive(url)) == log.stored


async def test_two_writers_write_each_segment_once(url: str) -> None:
    log = Log()
    log.fill(60)
    writers = [await writer(log, open_archive(url)) for _ in range(2)]
    found = await asyncio.gather(*(it.write_complete() for it in writers))
    written = [info.span for infos in found for info in infos]
    assert len(written) == len(set(written))
    assert [it.archived for it in writers] == [60, 60]
    assert await history(None, open_archive(url)) == log.stored


async def test_a_component_archives_as_segments_become_complete(tmp_path: Path) -> None:
    log, archive, ready = Log(), open_archive(str(tmp_path)), asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(run_archive(log.bus, archive, CONFIG, ready=ready))
        await ready.wait()
        log.fill(20)
        await archived(archive, [Span(1, 10), Span(11, 20)])
        task.cancel()


async def test_an_archive_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    log, ready = Log(), asyncio.Event()
    archive = open_archive(str(tmp_path / "archive"))
    log.fill(10)
    (tmp_path / "archive" / "log").touch()  # a file where the folder belongs
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        writing = ArchiveWriter(log.bus, archive, CONFIG)
        with pytest.raises(ArchiveUnavailable):
            await writing.write_complete()
        assert writing.archived == 0
        (tmp_path / "archive" / "log").unlink()
        task = group.create_task(run_archive(log.bus, archive, CONFIG, ready=ready))
        await archived(archive, [Span(1, 10)])
        task.cancel()


async def test_a_log_that_begins_too_late_is_an_error_and_can_be_accepted(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(25)
    log.broker.purge(before_seq=4)
    with pytest.raises(ArchiveGap, match="begins after"):
        await (await writer(log, archive)).write_complete()
    accepting = ArchiveWriter(log.bus, archive, CONFIG.model_copy(update={"accept_gap": True}))
    await accepting.open()
    infos = await accepting.write_complete()
    assert [it.missing for it in infos] == [(1, 2, 3), ()]


async def test_archive_and_log_with_a_gap_between_are_not_read_as_one(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(25)
    await (await writer(log, archive)).write_complete()
    log.broker.purge(before_seq=21)
    assert await history(log, archive) == log.stored
    log.broker.purge(before_seq=22)
    with pytest.raises(ArchiveGap):
        await history(log, archive)


async def test_an_archive_that_begins_is_known_before_it_has_anything(tmp_path: Path) -> None:
    log, ready = Log(), asyncio.Event()
    log.fill(25)
    (tmp_path / "log").touch()  # a file where the folder belongs: nothing can be written
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(run_archive(log.bus, open_archive(str(tmp_path)), CONFIG, ready=ready))
        await ready.wait()
        task.cancel()
    found = await log.bus.snapshots.get(ARCHIVE)
    assert found is not None
    assert found.data == b'{"upToSeq":0}'


async def test_the_fleet_is_told_what_is_archived(tmp_path: Path) -> None:
    log, archive, ready = Log(), open_archive(str(tmp_path)), asyncio.Event()
    log.fill(25)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(run_archive(log.bus, archive, CONFIG, ready=ready))
        await archived(archive, [Span(1, 10), Span(11, 20)])
        while (found := await log.bus.snapshots.get(ARCHIVE)) is None:  # noqa: ASYNC110 - written after the segments
            await asyncio.sleep(0.01)  # a key of the store wakes nobody; the test's deadline ends the loop
        assert found.data == b'{"upToSeq":20}'
        task.cancel()


async def test_a_missing_segment_is_an_error(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(30)
    await (await writer(log, archive)).write_complete()
    (tmp_path / "log" / Span(11, 20).name).unlink()
    with pytest.raises(ArchiveDamaged, match="missing"):
        await history(log, archive)
    with pytest.raises(ArchiveDamaged, match="missing"):
        archive.verify(archive.spans()[0])


async def test_a_changed_segment_is_an_error(tmp_path: Path) -> None:
    log, archive = Log(), open_archive(str(tmp_path))
    log.fill(10)
    await (await writer(log, archive)).write_complete()
    file = tmp_path / "log" / Span(1, 10).name
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArchiveDamaged):
        archive.verify(Span(1, 10))


def test_addresses_show_no_credentials() -> None:
    with pytest.raises(Exception, match="archive") as raised:
        open_archive("ftp://user:secret@host/path")
    assert "secret" not in str(raised.value)
