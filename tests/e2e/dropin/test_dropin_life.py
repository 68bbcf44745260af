"""The drop-in's life and deaths: its own, its application's, a worker's, an agent's, the fleet's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mafalda.dropin.process.startup import READ_FD, WRITE_FD
from mafalda.mediasoup import AudioLevelObserver, Producer, Worker
from mafalda.mediasoup.errors import WorkerRequestFailed
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, opus_packet, until
from tests.e2e.conftest import Up, up
from tests.e2e.dropin.conftest import (
    COMMAND,
    TIMEOUT_S,
    dropin,
    dropin_environment,
    eventually,
    overview,
    places,
)


def _rooms(fleet: Up) -> set[str]:
    return {room["room"] for room in fleet.json("ls")["rooms"]}


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        ([], {}, 41),
        (["--logLevel=chicken"], {"MEDIASOUP_VERSION": "3.27.1"}, 42),
        (["--rtcMinPort=1000", "--rtcMaxPort=999"], {"MEDIASOUP_VERSION": "3.27.1"}, 42),
    ],
)
def test_exit_codes_are_the_worker_s(arguments: list[str], environment: dict[str, str], code: int) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "MEDIASOUP_VERSION"}
    ended = subprocess.run([*COMMAND, *arguments], env={**clean, **environment}, capture_output=True, timeout=30)
    assert ended.returncode == code
    assert ended.stderr


@pytest.mark.parametrize("forkserver", ["0", "1"])
@pytest.mark.parametrize(
    ("written", "code"),
    [
        (b"", 0),  # the end of the channel
        (b"\xff\xff\xff\xff", 1),  # a length that no message has
        (b"\x08\0\0\0nonsense", 1),
    ],
)
def test_garbage_ends_it_and_the_end_does(fleet: Up, written: bytes, code: int, forkserver: str) -> None:
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()

    def as_a_library_does() -> None:
        os.dup2(their_read, READ_FD)
        os.dup2(their_write, WRITE_FD)

    process = subprocess.Popen(
        COMMAND,
        env={**dropin_environment(fleet, MAFALDA_WORKER_FORKSERVER=forkserver), "MEDIASOUP_VERSION": "3.27.1"},
        close_fds=False,
        preexec_fn=as_a_library_does,
        stderr=subprocess.PIPE,
    )
    os.close(their_read)
    os.close(their_write)
    try:
        assert os.read(our_read, 65536)  # it runs
        os.write(our_write, written)
        if not written:
            os.close(our_write)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code
        assert b"closing myself" in errors
    finally:
        process.kill()
        process.communicate()
        os.close(our_read)
        if written:
            os.close(our_write)


@pytest.mark.parametrize("forkserver", ["0", "1"])
async def test_it_dies_with_its_library(fleet: Up, forkserver: str) -> None:
    """Killed in the moment in which its worker runs, standard error and all."""
    script = (
        "import asyncio, sys\n"
        "from mafalda.mediasoup import create_worker\n"
        "async def main():\n"
        f"    async with create_worker(bin={COMMAND!r}) as worker:\n"
        "        print(worker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    environment = dropin_environment(fleet, MAFALDA_WORKER_FORKSERVER=forkserver)
    library = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert library.stdout is not None
    line = await library.stdout.readline()
    while not line.strip().isdigit():  # log lines
        line = await library.stdout.readline()
    process = psutil.Process(int(line))
    library.kill()
    await library.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [process], TIMEOUT_S)
    assert alive == []


@pytest.mark.parametrize("forkserver", ["0", "1"])
async def test_closing_it_leaves_the_rooms(fleet: Up, forkserver: str) -> None:
    environment = dropin_environment(fleet, MAFALDA_WORKER_FORKSERVER=forkserver)
    async with dropin(fleet, environment=environment) as worker:
        router = await worker.create_router(media_codecs=MEDIA_CODECS)
        await router.create_plain_transport(listen_info=LOOPBACK)
        assert router.id in await asyncio.to_thread(_rooms, fleet)
        dump = await worker.dump()
        assert (dump["pid"], dump["routerIds"]) == (worker.pid, [router.id])
    await eventually(lambda: router.id not in _rooms(fleet))


@pytest.mark.parametrize("forkserver", ["0", "1"])
async def test_a_killed_worker_s_rooms_are_cleared(fleet: Up, forkserver: str) -> None:
    """By the child of the forkserver at once; where there is none, by the agents, when nobody answers any more."""
    async with dropin(fleet, environment=dropin_environment(fleet, MAFALDA_WORKER_FORKSERVER=forkserver)) as worker:
        router = await worker.create_router(media_codecs=MEDIA_CODECS)
        await router.create_direct_transport()
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: worker.died is not None)
    await eventually(lambda: router.id not in _rooms(fleet))


def _pid_of(fleet: Up, name: str) -> int:
    servers = fleet.json("ls")["servers"]
    pid: int = next(it["pid"] for server in servers for it in server["workers"] if it["worker"] == name)
    return pid


def _record(emitter: Any, *names: str) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    for name in names:
        emitter.on(name, lambda payload, name=name: seen.append((name, payload)))
    return seen


async def test_a_worker_s_death_ends_its_transports_and_nothing_else(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "2", "--policy", "spread") as fleet:
        async with dropin(fleet) as worker:
            await _survive_a_death(fleet, worker)


async def _survive_a_death(fleet: Up, worker: Worker) -> None:
    router = await worker.create_router(media_codecs=MEDIA_CODECS)
    transports = [await router.create_webrtc_transport(listen_infos=[LOOPBACK]) for _ in range(4)]
    where = await asyncio.to_thread(places, fleet, router.id)
    doomed = transports[0]
    spared = next(it for it in transports if where[it.id] != where[doomed.id])
    on_doomed = await doomed.produce(**audio(ssrc=1))
    on_spared = await spared.produce(**audio(ssrc=2, mid="1"))
    capabilities = router.rtp_capabilities
    here = await spared.consume(producer_id=on_doomed.id, rtp_capabilities=capabilities)
    there = await doomed.consume(producer_id=on_spared.id, rtp_capabilities=capabilities)
    states = _record(doomed, "icestatechange", "dtlsstatechange")
    ends, quiet = _record(here, "producerclose"), _record(spared, "icestatechange", "dtlsstatechange")
    lost = _record(there, "producerclose")
    os.kill(await asyncio.to_thread(_pid_of, fleet, where[doomed.id]), signal.SIGKILL)
    await until(lambda: len(states) == 2 and ends and lost, TIMEOUT_S)
    assert states == [("icestatechange", "disconnected"), ("dtlsstatechange", "closed")]
    assert (quiet, worker.closed) == ([], False)
    assert on_spared.id in {entry["key"] for entry in (await router.dump())["mapProducerIdConsumerIds"]}
    with pytest.raises(WorkerRequestFailed):
        await doomed.dump()
    await doomed.close()
    fresh = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
    again = await fresh.consume(producer_id=on_spared.id, rtp_capabilities=capabilities)
    assert again.producer_id == on_spared.id

    def is_settled() -> bool:
        return doomed.id not in places(fleet, router.id)

    await eventually(is_settled)


async def test_what_ends_with_a_worker_is_as_the_application_has_set(tmp_path: Path) -> None:
    """All transports of the router, or the drop-in; and a WebRtcServer survives its worker."""
    with up(tmp_path, "--workers", "2", "--policy", "spread") as fleet:
        environment = dropin_environment(fleet, MAFALDA_ON_WORKER_DEATH="router")
        async with dropin(fleet, environment=environment) as worker:
            await _end_a_router(fleet, worker)
        environment = dropin_environment(fleet, MAFALDA_ON_WORKER_DEATH="die")
        async with dropin(fleet, environment=environment) as worker:
            router = await worker.create_router(media_codecs=MEDIA_CODECS)
            doomed = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
            await _kill_worker_of(fleet, router.id, doomed.id)
            await until(lambda: worker.died is not None, TIMEOUT_S)
            assert worker.died is not None
            assert worker.died.details["exit_code"] == 1


async def _end_a_router(fleet: Up, worker: Worker) -> None:
    server = await worker.create_webrtc_server(listen_infos=[LOOPBACK])
    router = await worker.create_router(media_codecs=MEDIA_CODECS)
    transports = [await router.create_webrtc_transport(webrtc_server=server) for _ in range(4)]
    other = await worker.create_router(media_codecs=MEDIA_CODECS)
    quiet = _record(await other.create_webrtc_transport(listen_infos=[LOOPBACK]), "dtlsstatechange")
    seen = [_record(it, "icestatechange", "dtlsstatechange") for it in transports]
    where = await asyncio.to_thread(places, fleet, router.id)
    assert len(set(where.values())) == 2
    spared = await asyncio.to_thread(_place_of, fleet, other.id)
    doomed = next(it.id for it in transports if where[it.id] != spared)
    await _kill_worker_of(fleet, router.id, doomed)
    await until(lambda: all(len(states) == 2 for states in seen), TIMEOUT_S)
    ended = [("icestatechange", "disconnected"), ("dtlsstatechange", "closed")]
    assert (seen, quiet, worker.closed) == ([ended] * 4, [], False)
    await eventually(lambda: router.id not in _rooms(fleet) or not overview(fleet, router.id)["peers"])
    for transport in transports:
        await transport.close()
    again = await router.create_webrtc_transport(webrtc_server=server)
    assert again.id in {entry["webRtcTransportId"] for entry in (await server.dump())["localIceUsernameFragments"]}


def _place_of(fleet: Up, room: str) -> str:
    (place,) = places(fleet, room).values()
    return place


async def test_an_observer_survives_its_worker(tmp_path: Path) -> None:
    """It is made again on another worker, as it was, and what was asked meanwhile is done there."""
    with up(tmp_path, "--workers", "3", "--policy", "spread") as fleet:
        async with dropin(fleet) as worker:
            router = await worker.create_router(media_codecs=MEDIA_CODECS)
            observer = await router.create_audio_level_observer(interval=250, max_entries=2)
            transports = [await router.create_direct_transport() for _ in range(3)]
            where = await asyncio.to_thread(_workers_of_all, fleet, router.id)
            spared = next(it for it in transports if where[it.id] != where[observer.id])
            early, late = [await spared.produce(**audio(ssrc=number, mid=str(number))) for number in (1, 2)]
            await observer.add_producer(producer_id=early.id)
            await observer.pause()
            speakers = _volumes(observer)
            await _kill_worker_of(fleet, router.id, observer.id)
            await observer.add_producer(producer_id=late.id)
            for sequence in range(50):
                await _speak(sequence, early, late)
            assert not speakers
            await observer.resume()
            async with asyncio.timeout(TIMEOUT_S):
                while speakers != {early.id, late.id}:
                    await _speak(sequence := sequence + 1, early, late)
            verified = await asyncio.to_thread(lambda: fleet.mafalda("replay", "--verify", check=False))
            assert verified.returncode == 0, verified.stdout + verified.stderr


def _workers_of_all(fleet: Up, room: str) -> dict[str, str]:
    """On which real worker each transport of a virtual router is, and each RTP observer, which is a peer."""
    peers = overview(fleet, room)["peers"]
    return places(fleet, room) | {peer["peer"]: peer["worker"] for peer in peers}


async def _kill_worker_of(fleet: Up, room: str, id: str) -> None:
    where = await asyncio.to_thread(_workers_of_all, fleet, room)
    os.kill(await asyncio.to_thread(_pid_of, fleet, where[id]), signal.SIGKILL)


def _volumes(observer: AudioLevelObserver) -> set[str]:
    """The producers that it has reported as loud."""
    speakers: set[str] = set()
    observer.on(observer.VOLUMES, lambda volumes: speakers.update(volume.producer.id for volume in volumes))
    return speakers


async def _speak(sequence: int, *producers: Producer) -> None:
    for producer in producers:
        ssrc = producer.rtp_parameters.encodings[0].ssrc
        assert ssrc is not None
        producer.send(opus_packet(sequence, ssrc=ssrc, level=20))
    await asyncio.sleep(0.02)  # an audio packet's duration: levels are computed over time


async def test_a_hung_agent_gives_errors_in_bounded_time(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "1") as fleet:
        agent = psutil.Process(fleet.pids["agent server-1"])
        async with dropin(fleet) as worker:
            router = await worker.create_router(media_codecs=MEDIA_CODECS)
            transport = await router.create_plain_transport(listen_info=LOOPBACK)
            agent.suspend()
            try:
                with pytest.raises(WorkerRequestFailed):
                    await transport.dump()
                with pytest.raises(WorkerRequestFailed):
                    await transport.produce(**audio(ssrc=3))
            finally:
                agent.resume()
            assert not worker.closed


async def test_without_its_fleet_it_dies_as_a_worker_dies(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "1") as fleet:
        async with dropin(fleet) as worker:
            router = await worker.create_router(media_codecs=MEDIA_CODECS)
            closed = _record(router, "workerclose")
            for process in fleet.family():
                process.kill()
            await until(lambda: worker.died is not None, TIMEOUT_S)
            assert worker.died is not None
            assert worker.died.details["exit_code"] == 1
            assert closed
