"""The questions of docs/archive.md are answered, by DuckDB, from files that the archive wrote."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import duckdb
import pytest

from mafalda.archive.store import open_archive
from mafalda.archive.writer import ArchiveConfig, ArchiveWriter
from mafalda.bus.log.append import is_captured
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.intents import Join
from mafalda.monitor.records import read_lines
from mafalda.testing.builders import EXAMPLES, example, message, subject_of
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus

ROOT = Path(__file__).parents[3]
VIEW, *QUESTIONS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/archive.md").read_text(), flags=re.DOTALL)


async def write(broker: MemoryBroker, folder: Path) -> None:
    writer = ArchiveWriter(MemoryBus(broker), open_archive(str(folder)), ArchiveConfig(segment_entries=30))
    await writer.open()
    assert len(await writer.write_all()) > 1


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The archive of a recorded story and of one example of each message."""
    broker = MemoryBroker()
    with (ROOT / "tests/replays/v1-story.jsonl").open("rb") as lines:
        for entry in read_lines(lines):
            broker.store(entry.subject, entry.raw, {})
    for payload in EXAMPLES.values():
        if is_captured(subject := subject_of(payload)):
            broker.store(subject, encode(message(payload)), {})
    join = message(example(Join))
    placed = message(example(PlacePeer).model_copy(update={"join": join.id, "cause": "join"}))
    for added in (join, placed):
        broker.store(subject_of(added.data), encode(added), {})
    folder = tmp_path_factory.mktemp("archive")
    asyncio.run(write(broker, folder))
    database = duckdb.connect()
    database.execute(VIEW.replace("archive/log/", f"{folder}/log/"))
    return database


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_an_answer(database: duckdb.DuckDBPyConnection, question: str) -> None:
    assert database.sql(question).fetchall()


def test_there_are_five(database: duckdb.DuckDBPyConnection) -> None:
    assert len(QUESTIONS) == 5


def test_a_killed_worker_is_seen(database: duckdb.DuckDBPyConnection) -> None:
    rows = database.sql(next(it for it in QUESTIONS if "worker-died" in it)).fetchall()
    assert ("ams", "ams-0-b9Tw", "SIGKILL", 1) in [row[1:] for row in rows]
