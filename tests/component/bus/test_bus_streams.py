"""The streams: created once, checked at each start, updated or refused by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mafalda.aio.retry import retrying
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import open_connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.bus.errors import StreamMismatch
from mafalda.bus.log.streams import LOAD_STREAM, LOG_STREAM, declared, differences
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.bus.protocol import Expect, LogUsage
from mafalda.contract.subjects import LOG_SUBJECTS
from mafalda.errors import LogFull


async def found(bus: Any, stream: str) -> dict[str, Any]:
    config: dict[str, Any] = (await call(bus.connection, f"STREAM.INFO.{stream}"))["config"]
    return config


async def make(url: str, **settings: Any) -> None:
    async with open_connection(BusConfig(servers=(url,))) as connection:
        async for attempt in retrying(ApiRefused, action="test_stream_create", give_up_after_s=30):
            with attempt:  # refused while nats-server deletes the files of streams before
                await call(connection, f"STREAM.CREATE.{settings['name']}", settings)


async def test_they_are_as_declared(nats_bus: Any, h: Any) -> None:
    for wanted in declared(BusConfig()):
        assert differences(await found(nats_bus, wanted["name"]), wanted) == {}
    log = await found(nats_bus, LOG_STREAM)
    assert (log["storage"], log["max_age"], log["max_bytes"], log["num_replicas"]) == ("file", 0, -1, 1)
    assert log["republish"] == {"src": "mafalda.>", "dest": "live.mafalda.>"}
    load = await found(nats_bus, LOAD_STREAM)
    assert (load["storage"], load["max_msgs_per_subject"]) == ("memory", 1)


async def test_many_processes_start_at_once(nats_url: str, h: Any) -> None:
    async def start() -> int:
        async with connect(BusConfig(servers=(nats_url,))) as bus:
            return await bus.last_seq()

    assert await asyncio.gather(*(start() for _ in range(8))) == [0] * 8


async def test_a_stream_of_another_kind_is_refused_by_name(nats_url: str, h: Any) -> None:
    await make(nats_url, name=LOG_STREAM, subjects=["mafalda.room.>"], storage="memory", retention="workqueue")
    with pytest.raises(StreamMismatch) as caught:
        async with connect(BusConfig(servers=(nats_url,))):
            pass
    assert caught.value.details["fields"] == "retention, storage"
    assert caught.value.details["stream"] == LOG_STREAM


async def test_subjects_that_another_stream_has_are_refused_by_name(nats_url: str, h: Any) -> None:
    await make(nats_url, name="OTHERS", subjects=["mafalda.command.>"])
    try:
        with pytest.raises(StreamMismatch) as caught:
            async with connect(BusConfig(servers=(nats_url,))):
                pass
        assert "overlap" in caught.value.details["reason"]
    finally:
        async with open_connection(BusConfig(servers=(nats_url,))) as connection:
            await call(connection, "STREAM.DELETE.OTHERS")


async def test_a_stream_of_an_older_version_is_updated_and_keeps_what_an_operator_chose(nats_url: str, h: Any) -> None:
    age_ns = 3600 * 10**9
    newer = "mafalda.newer.*"
    await make(nats_url, name=LOG_STREAM, subjects=[*LOG_SUBJECTS[:2], newer], max_age=age_ns, allow_rollup_hdrs=True)
    async with connect(BusConfig(servers=(nats_url,))) as bus:
        log = await found(bus, LOG_STREAM)
    assert set(log["subjects"]) == {*LOG_SUBJECTS, newer}
    assert log["allow_rollup_hdrs"] is False
    assert log["republish"]["dest"] == "live.mafalda.>"
    assert log["max_age"] == age_ns


async def test_what_the_configuration_says_holds(nats_bus: Any, nats_url: str, h: Any) -> None:
    async with connect(BusConfig(servers=(nats_url,), log_max_bytes=10**6)) as bus:
        log = await found(bus, LOG_STREAM)
    assert (log["max_bytes"], log["discard"]) == (10**6, "new")


async def test_a_credential_without_that_right_leaves_them_alone(nats_url: str, h: Any) -> None:
    async with connect(BusConfig(servers=(nats_url,), ensure_streams=False)) as bus:
        names = await call(bus.connection, "STREAM.NAMES")
    assert not names.get("streams")


async def test_a_full_log_refuses_appends_and_takes_them_again_with_a_higher_limit(nats_url: str, h: Any) -> None:
    subject = "mafalda.room.lobby.event.peer-left"
    async with connect(BusConfig(servers=(nats_url,), log_max_bytes=100_000)) as bus:
        assert not LogUsage(entries=0, bytes=0, limit_bytes=100_000).is_full
        with pytest.raises(LogFull, match="max_bytes") as caught:
            await h.append(bus, *[subject] * 1000)
        assert "maximum bytes exceeded" in caught.value.details["reason"]
        full = await bus.log_usage()
        assert (full.limit_bytes, full.is_full, full.entries) == (100_000, True, await bus.last_seq())
        with pytest.raises(LogFull):
            await bus.append(subject, h.message(subject), expect=Expect(subject, await bus.last_seq()))

        await call(bus.connection, f"STREAM.UPDATE.{LOG_STREAM}", {**await found(bus, LOG_STREAM), "max_bytes": 10**6})
        (seq,) = await h.append(bus, subject)
        usage = await bus.log_usage()  # nats-server may leave sequences out where it refused
        assert (usage.entries, usage.last_seq, usage.is_full) == (full.entries + 1, seq, False)


async def test_a_nats_server_without_storage_refuses_appends_at_once(tmp_path: Path, h: Any) -> None:
    """As with a full disk: nats-server takes part of it as its limit, and the stream has none."""
    conf = tmp_path / "nats.conf"
    conf.write_text("jetstream { max_file_store: 64KB }")
    subject = "mafalda.room.lobby.event.peer-left"
    async with (
        run_server(ServerConfig(port=0, conf_file=conf)) as server,
        connect(BusConfig(servers=(server.url,))) as bus,
    ):
        with pytest.raises(LogFull, match="disk space") as caught:
            await h.append(bus, *[subject] * 1000)
        assert "10023" in caught.value.details["reason"]
        assert (await bus.log_usage()).limit_bytes is None
        assert await bus.last_seq() > 0
