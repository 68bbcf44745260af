"""Log lines of the real workers, as the application asked for them and of its own objects only."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from mafalda.errors import WorkerRequestFailed
from mafalda.mediasoup import PlainTransport, Router, Worker
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, opus_packet, until
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import TIMEOUT_S, dropin, eventually

#: What a worker says with the tag ``rtp`` in debug when a transport hears its remote end for the first time.
TUPLE_LINE = "setting RTP tuple (comedia mode enabled)"


def _lines(worker: Worker) -> list[str]:
    lines: list[str] = []
    worker.on(Worker.LOG, lines.append)
    return lines


async def _comedia(router: Router) -> PlainTransport:
    transport = await router.create_plain_transport(listen_info=LOOPBACK, rtcp_mux=True, comedia=True)
    await transport.produce(**audio(ssrc=77))
    return transport


def _send_rtp(transport: PlainTransport) -> None:
    """The first packet that it hears: its worker says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        remote.sendto(opus_packet(1, ssrc=77), ("127.0.0.1", transport.tuple.local_port))


async def test_lines_come_as_the_library_asks_for_them(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "1") as fleet:
        async with dropin(fleet, log_level="error") as worker:
            lines = _lines(worker)
            router = await worker.create_router(media_codecs=MEDIA_CODECS)
            quiet, loud = await _comedia(router), await _comedia(router)
            _send_rtp(quiet)
            # Errors are what it wants from the start: they come, and nothing else has come before.
            await worker.update_settings(log_level="error")
            with pytest.raises(WorkerRequestFailed, match="ssrc already exists"):
                await quiet.produce(**audio(ssrc=77))
            await until(lambda: lines, TIMEOUT_S)
            assert [line[:1] for line in lines] == ["E"] * len(lines)
            lines.clear()
            await worker.update_settings(log_level="debug", log_tags=["rtp"])
            _send_rtp(loud)
            await until(lambda: any(TUPLE_LINE in line for line in lines), TIMEOUT_S)
            assert next(line for line in lines if TUPLE_LINE in line).startswith("D")


async def test_lines_are_not_of_another_application(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "1") as fleet:
        async with dropin(fleet, log_level="debug", log_tags=["rtp"]) as one:
            lines = _lines(one)
            router = await one.create_router(media_codecs=MEDIA_CODECS)
            beside = await _comedia(router)
            async with dropin(fleet, log_level="debug", log_tags=["rtp"]) as other:
                heard = _lines(other)
                their_router = await other.create_router(media_codecs=MEDIA_CODECS)
                theirs = await _comedia(their_router)
                for worker in (one, other):  # answered when every real worker has been told
                    await worker.update_settings(log_level="debug", log_tags=["rtp"])
                _send_rtp(beside)  # both are on the worker, and the line does not say whose it is
                _send_rtp(theirs)
                await their_router.dump()
            await eventually(lambda: their_router.id not in _rooms(fleet))
            async with asyncio.timeout(TIMEOUT_S):
                while not any(TUPLE_LINE in line for line in lines):
                    _send_rtp(await _comedia(router))
                    await router.dump()
            assert not any(TUPLE_LINE in line for line in heard)


def _rooms(fleet: Up) -> set[str]:
    return {room["room"] for room in fleet.json("ls")["rooms"]}
