"""Worker: start, settings, death, end. The first four mirror mediasoup's own test of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mafalda.errors import AlreadyExists, InvalidParameters, NotFound, UnsupportedError, WorkerExited
from mafalda.mediasoup import MEDIASOUP_VERSION, Worker, create_worker
from mafalda.mediasoup.errors import (
    RequestTimeout,
    WorkerClosed,
    WorkerSettingsRefused,
    WorkerStartFailed,
    WorkerVersionMismatch,
)
from tests.conformance.mediasoup.driver_samples import LOOPBACK, MEDIA_CODECS, audio, until

Recorder = Callable[..., list[tuple[str, Any]]]


async def test_runs_until_the_block_ends(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin, app_data={"foo": 456}) as worker:
        assert psutil.pid_exists(worker.pid)
        assert (worker.closed, worker.died, worker.app_data) == (False, None, {"foo": 456})
    assert (worker.closed, worker.died) == (True, None)
    assert not psutil.pid_exists(worker.pid)


async def test_takes_every_setting(worker_bin: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2"]
    make += ["-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, make, check=True, capture_output=True)
    async with create_worker(
        bin=str(worker_bin),
        log_level="debug",
        log_tags=["info", "ice"],
        rtc_min_port=0,
        rtc_max_port=9999,
        dtls_certificate_file=certificate,
        dtls_private_key_file=key,
        libwebrtc_field_trials="WebRTC-Bwe-AlrLimitedBackoff/Disabled/",
    ) as worker:
        assert (await worker.dump())["pid"] == worker.pid


@pytest.mark.parametrize(
    "settings",
    [
        {"log_level": "chicken"},
        {"rtc_min_port": 1000, "rtc_max_port": 999},
        {"rtc_min_port": 1000, "rtc_max_port": 65536},
        {"dtls_certificate_file": "/notfound/cert.pem"},
        {"dtls_private_key_file": "/notfound/key.pem"},
    ],
)
async def test_wrong_settings_are_refused(worker_bin: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(WorkerSettingsRefused) as caught:
        async with create_worker(bin=worker_bin, **settings):
            pass
    assert caught.value.details["exit_code"] == 42


async def test_a_worker_without_its_version_does_not_start(tmp_path: Path, worker_bin: Path) -> None:
    forgetful = tmp_path / "worker"
    forgetful.write_text(f'#!/bin/sh\nunset MEDIASOUP_VERSION\nexec {worker_bin} "$@"\n')
    forgetful.chmod(0o755)
    with pytest.raises(WorkerVersionMismatch) as caught:
        async with create_worker(bin=forgetful):
            pass
    assert caught.value.details["exit_code"] == 41


async def test_a_program_that_is_not_a_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkerStartFailed, match="cannot start"):
        async with create_worker(bin=tmp_path / "nothing"):
            pass
    with pytest.raises(WorkerStartFailed) as caught:
        async with create_worker(bin=["sh", "-c", "echo last words; exit 3"]):
            pass
    assert caught.value.details["exit_code"] == 3
    assert caught.value.details["last_words"] == "last words"
    with pytest.raises(RequestTimeout):
        async with create_worker(bin=["sh", "-c", "exec sleep 60"], start_timeout_s=0.2):
            pass


async def test_dump_usage_and_settings(worker: Worker) -> None:
    assert await worker.dump() == {
        "pid": worker.pid,
        "webRtcServerIds": [],
        "routerIds": [],
        "channelMessageHandlers": {"channelRequestHandlers": [], "channelNotificationHandlers": []},
    }
    usage = await worker.get_resource_usage()
    assert usage["ru_maxrss"] > 0
    assert len(usage) == 16
    await worker.update_settings(log_level="debug", log_tags=["ice"])
    with pytest.raises(InvalidParameters):
        await worker.update_settings(log_level="chicken")  # type: ignore[arg-type]


async def test_makes_routers(worker: Worker, record: Recorder) -> None:
    seen = record(worker, "newrouter")
    router = await worker.create_router(media_codecs=MEDIA_CODECS, id="room-1", app_data={"a": 1})
    assert seen == [("newrouter", router)]
    assert (router.id, router.closed, router.app_data) == ("room-1", False, {"a": 1})
    assert worker.routers == {"room-1": router}
    assert (await worker.dump())["routerIds"] == ["room-1"]
    with pytest.raises(AlreadyExists):
        await worker.create_router(id="room-1")
    assert (await router.dump())["id"] == "room-1"  # the refusal did not disturb it


async def test_refuses_wrong_codecs_and_ids(worker: Worker) -> None:
    with pytest.raises(UnsupportedError):
        await worker.create_router(media_codecs=[{"kind": "audio", "mimeType": "audio/chicken", "clockRate": 8000}])
    with pytest.raises(InvalidParameters):
        await worker.create_router(media_codecs=[{"kind": "audio"}])
    for wrong in ("", "with space", "x" * 256, "ü"):
        with pytest.raises(InvalidParameters):
            await worker.create_router(id=wrong)
    assert (await worker.dump())["routerIds"] == []


async def test_a_closed_worker_refuses(worker_bin: Path, record: Recorder) -> None:
    async with create_worker(bin=worker_bin) as worker:
        router = await worker.create_router()
        seen = record(router, "workerclose", "close")
        of_worker = record(worker, "died", "close")
        await worker.close()
        await worker.close()
        assert seen == [("workerclose", None), ("close", "workerclose")]
        assert of_worker == [("close", "close")]
        with pytest.raises(WorkerClosed):
            await worker.dump()
        with pytest.raises(WorkerClosed):
            await router.dump()
        await router.close()  # nothing left to do


async def test_closing_fails_what_is_pending(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        pending = [asyncio.create_task(worker.dump()) for _ in range(3)]
        await until(lambda: worker.pending_requests == 3)
        os.kill(worker.pid, signal.SIGCONT)
        await worker.close()
        for task in pending:
            with pytest.raises(WorkerClosed):
                await task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_death_closes_children_before_parents(worker_bin: Path, record: Recorder, number: signal.Signals) -> None:
    async with create_worker(bin=worker_bin) as worker:
        router = await worker.create_router(media_codecs=MEDIA_CODECS)
        transport = await router.create_webrtc_transport(listen_infos=[LOOPBACK])
        producer = await transport.produce(**audio())
        order: list[str] = []
        producer.on("close", lambda cause: order.append(f"producer {cause}"))
        transport.on("close", lambda cause: order.append(f"transport {cause}"))
        router.on("close", lambda cause: order.append(f"router {cause}"))
        worker.on("died", lambda _: order.append(f"died {worker.closed}"))
        worker.on("close", lambda cause: order.append(f"worker {cause}"))
        os.kill(worker.pid, number)
        death = await worker.wait("died", timeout_s=10)
        assert isinstance(death, WorkerExited)
        assert worker.died is death
        killed = number == signal.SIGKILL
        assert death.details["signal"] == ("SIGKILL" if killed else None)
        assert death.details["exit_code"] == (None if killed else 0)
        assert order == [
            "producer transportclose",
            "transport routerclose",
            "router workerclose",
            "died True",
            "worker died",
        ]
        with pytest.raises(WorkerExited):
            await router.dump()


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by SIGSTOP, which takes effect a moment after it is sent (proc(5), ``stat``)."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


async def test_death_fails_what_is_pending(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        await until(lambda: is_stopped(worker.pid))
        pending = asyncio.create_task(worker.dump())
        await until(lambda: worker.pending_requests == 1)
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerExited) as caught:
            await pending
        assert caught.value.details["method"] == "worker.dump"


async def test_a_silent_worker_costs_only_the_deadline(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin, request_timeout_s=0.2) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(RequestTimeout) as caught:
            await worker.dump()
        assert caught.value.details == {"method": "worker.dump", "timeout_s": 0.2}
        os.kill(worker.pid, signal.SIGCONT)
        assert (await worker.dump())["pid"] == worker.pid  # the late answer changed nothing


async def test_an_object_created_after_the_deadline_is_closed(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin, request_timeout_s=0.2) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(RequestTimeout):
            await worker.create_router(id="late")
        os.kill(worker.pid, signal.SIGCONT)
        await worker.dump()  # answered after the late answer, which sends the undoing
        assert (await worker.dump())["routerIds"] == []
        assert (await worker.create_router(id="late")).id == "late"


async def test_an_object_whose_caller_was_cancelled_is_closed(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    making = asyncio.create_task(worker.create_router(id="cancelled"))
    await until(lambda: worker.pending_requests == 1)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    os.kill(worker.pid, signal.SIGCONT)
    await worker.dump()  # answered after the late answer, which sends the undoing
    assert (await worker.dump())["routerIds"] == []
    assert worker.routers == {}


async def test_a_worker_that_does_not_close_is_killed(worker_bin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mafalda.mediasoup.worker.worker.GRACEFUL_CLOSE_S", 0.1)
    monkeypatch.setattr("mafalda.mediasoup.worker.worker.TERM_CLOSE_S", 0.1)
    async with create_worker(bin=worker_bin) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
    assert not psutil.pid_exists(worker.pid)


async def test_cancelled_owners_still_end_their_worker(worker_bin: Path) -> None:
    started: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()

    async def own() -> None:
        async with create_worker(bin=worker_bin) as worker:
            started.set_result(worker)
            await asyncio.Event().wait()

    owner = asyncio.create_task(own())
    worker = await started
    owner.cancel()
    await asyncio.sleep(0)
    owner.cancel()  # twice: the second one arrives in the middle of the stopping
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert not psutil.pid_exists(worker.pid)


async def test_ignores_the_signals_that_mediasoup_ignores(worker: Worker) -> None:
    for name in ("SIGPIPE", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2"):
        os.kill(worker.pid, signal.Signals[name])
    assert (await worker.dump())["pid"] == worker.pid
    assert not worker.closed


async def test_a_callback_may_close_the_worker(worker_bin: Path) -> None:
    async with create_worker(bin=worker_bin) as worker:
        done = asyncio.Event()

        async def close(_: object) -> None:
            await worker.close()
            done.set()

        worker.on("newrouter", close)
        await worker.create_router()
        async with asyncio.timeout(10):
            await done.wait()
        assert worker.closed
    assert not psutil.pid_exists(worker.pid)


async def test_garbage_from_the_worker_kills_it(worker_bin: Path, tmp_path: Path) -> None:
    # A worker that starts well and then sends garbage: the real one behind a shell that shares its fd 4.
    mad = tmp_path / "mad"
    mad.write_text(
        f"#!/bin/sh\n(while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; printf '\\377\\377\\377\\377' >&4) 3<&- &\n"
        f'exec {worker_bin} "$@"\n'
    )
    mad.chmod(0o755)
    async with create_worker(bin=mad) as worker:
        assert (await worker.dump())["pid"] == worker.pid
        (tmp_path / "go").touch()
        death = await worker.wait("died", timeout_s=10)
        assert death.details["signal"] == "SIGKILL"


async def test_nothing_is_left_behind(worker_bin: Path, tmp_path: Path) -> None:
    def held() -> tuple[int, int, list[int]]:
        fds = len(os.listdir("/proc/self/fd"))
        return fds, threading.active_count(), sorted(child.pid for child in psutil.Process().children())

    async def once(kill: bool) -> None:
        async with create_worker(bin=worker_bin) as worker:
            await worker.create_router()
            if kill:
                os.kill(worker.pid, signal.SIGKILL)
                await worker.wait("died", timeout_s=10)

    await once(kill=False)
    await asyncio.sleep(0)
    before, tasks = held(), len(asyncio.all_tasks())
    for _ in range(3):
        await once(kill=False)
        await once(kill=True)
        with pytest.raises(WorkerSettingsRefused):
            async with create_worker(bin=worker_bin, rtc_min_port=2, rtc_max_port=1):
                pass
        with pytest.raises(WorkerStartFailed):
            async with create_worker(bin=tmp_path / "nothing"):
                pass
    await asyncio.sleep(0)  # transports close their descriptors in the next turn of the loop
    assert held() == before
    assert len(asyncio.all_tasks()) == tasks


async def test_death_is_noticed_without_pidfd_too(
    worker_bin: Path, monkeypatch: pytest.MonkeyPatch, record: Recorder
) -> None:
    monkeypatch.delattr(os, "pidfd_open")  # as on systems other than Linux
    async with create_worker(bin=worker_bin) as worker:
        assert (await worker.dump())["pid"] == worker.pid
        os.kill(worker.pid, signal.SIGKILL)
        death = await worker.wait("died", timeout_s=10)
        assert death.details["signal"] == "SIGKILL"
    async with create_worker(bin=worker_bin) as worker:
        pass
    assert not psutil.pid_exists(worker.pid)


async def test_the_worker_exits_when_its_parent_dies(worker_bin: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from mafalda.mediasoup import create_worker\n"
        "async def main():\n"
        f"    async with create_worker(bin={str(worker_bin)!r}) as worker:\n"
        "        sys.stdout.write(f'{worker.pid}\\n'); sys.stdout.flush()\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline()]
    while not lines[-1].strip().isdigit():  # log lines
        lines.append(await process.stdout.readline())
    pid = int(lines[-1])
    process.kill()
    await process.wait()
    gone = await asyncio.to_thread(psutil.wait_procs, [psutil.Process(pid)] if psutil.pid_exists(pid) else [], 10)
    assert gone[1] == []


async def test_unknown_ids_and_events(worker: Worker) -> None:
    with pytest.raises(NotFound):
        await worker.request("ROUTER_DUMP", "nobody")
    with pytest.raises(InvalidParameters):
        worker.on("chicken", print)


def test_the_version_is_the_pinned_one() -> None:
    assert MEDIASOUP_VERSION == "3.27.1"
