"""The drop-in's start, as libraries see it: what they give it, and what is said before the fleet is looked for."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mafalda.dropin.process.config_file import NAME
from mafalda.dropin.process.startup import READ_FD, WRITE_FD
from mafalda.mediasoup.channel import messages
from mafalda.mediasoup.channel.framing import frame
from tests.e2e.conftest import Up
from tests.e2e.dropin.conftest import TIMEOUT_S

PROGRAM = Path(sys.executable).with_name("mafalda-worker")
#: What mediasoup-go gives to its worker: nothing else at all.
GO_ENVIRONMENT = {"MEDIASOUP_VERSION": "default", "ULIMIT_CORE": "unlimited"}


class Library:
    """The library's end of a channel, message by message."""

    def __init__(self, process: subprocess.Popen[bytes], read_fd: int, write_fd: int) -> None:
        self.process = process
        self._read_fd, self._write_fd = read_fd, write_fd

    def hear(self) -> bytes:
        """The next message; empty at the end."""
        head = self._read(4)
        return self._read(*struct.unpack("<I", head)) if head else b""

    def say(self, payload: bytes) -> None:
        os.write(self._write_fd, frame(payload))

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            with selectors.DefaultSelector() as selector:
                selector.register(self._read_fd, selectors.EVENT_READ)
                assert selector.select(TIMEOUT_S), "nothing is said"
            more = os.read(self._read_fd, size - len(read))
            if not more:
                break
            read += more
        return read


@contextmanager
def spawned(program: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[Library]:
    """The drop-in as a library spawns it; it is killed at the end if it still runs."""
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()

    def as_a_library_does() -> None:
        os.dup2(their_read, READ_FD)
        os.dup2(their_write, WRITE_FD)

    process = subprocess.Popen(
        [str(program), *arguments],
        env=dict(environment),
        close_fds=False,
        preexec_fn=as_a_library_does,
        stderr=subprocess.PIPE,
    )
    os.close(their_read)
    os.close(their_write)
    try:
        yield Library(process, our_read, our_write)
    finally:
        process.kill()
        process.communicate()
        os.close(our_read)
        os.close(our_write)


def linked(folder: Path, *lines: str) -> Path:
    """The program under a folder of the application's own, with its file beside it."""
    (folder / NAME).write_text("\n".join(lines))
    program = folder / "mafalda-worker"
    program.symlink_to(PROGRAM)
    return program


def test_an_empty_environment_is_enough(fleet: Up, tmp_path: Path) -> None:
    program = linked(tmp_path, f"MAFALDA_NATS_URL={fleet.nats_url}", "MAFALDA_MEDIASOUP_VERSION=3.26.0")
    with spawned(program, GO_ENVIRONMENT) as library:
        running = messages.decode(library.hear())
        assert running == messages.Notification(str(library.process.pid), "WORKER_RUNNING", {})
        # A request without a body has the same bytes in both versions.
        library.say(messages.encode_request(1, "WORKER_DUMP", "", None))
        answer = messages.decode(library.hear())
        assert isinstance(answer, messages.Response)
        assert (answer.accepted, answer.body["pid"]) == (True, library.process.pid)


def test_it_says_that_it_runs_before_it_looks_for_a_fleet(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens: looking for it takes seconds
        program = linked(tmp_path, f"MAFALDA_NATS_URL=nats://name:secret@127.0.0.1:{bound.getsockname()[1]}")
        with spawned(program, {"MEDIASOUP_VERSION": "3.27.1"}) as library:
            assert isinstance(messages.decode(library.hear()), messages.Notification)
            line = messages.decode(library.hear())
            assert isinstance(line, messages.Log)
            assert line.data.startswith("Emafalda-worker: no fleet at 127.0.0.1:")
            _, errors = library.process.communicate(timeout=TIMEOUT_S)
            assert library.process.returncode == 1
            assert b"no fleet at" in errors
            assert b"secret" not in errors + line.data.encode()


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("3.12.16", "mediasoup 3.12.16 cannot be served by mafalda-worker 3.27.1"),
        ("3.99.0", "mediasoup 3.99.0 cannot be served by mafalda-worker 3.27.1"),
        ("default", "set MAFALDA_MEDIASOUP_VERSION to the one that the library was made for"),
    ],
)
def test_a_version_that_is_not_served_is_refused_at_the_start(version: str, sentence: str, tmp_path: Path) -> None:
    with spawned(linked(tmp_path), {"MEDIASOUP_VERSION": version}) as library:
        line = messages.decode(library.hear())
        assert isinstance(line, messages.Log)
        assert sentence in line.data
        _, errors = library.process.communicate(timeout=TIMEOUT_S)
        assert library.process.returncode == 41
        assert sentence in errors.decode()
        assert len(errors.splitlines()) == 1


def test_a_file_that_is_wrong_is_a_wrong_setting(tmp_path: Path) -> None:
    with spawned(linked(tmp_path, "MAFALDA_NATS_URL"), {"MEDIASOUP_VERSION": "3.27.1"}) as library:
        _, errors = library.process.communicate(timeout=TIMEOUT_S)
        assert library.process.returncode == 42
        assert f"{NAME}, line 1: not NAME=value" in errors.decode()


def test_options_of_older_libraries_are_taken(fleet: Up, tmp_path: Path) -> None:
    program = linked(tmp_path, f"MAFALDA_NATS_URL={fleet.nats_url}")
    arguments = ("--logLevel=warn", "--disableLiburing=true", "--useBuiltInSctpStack=false")
    with spawned(program, {"MEDIASOUP_VERSION": "3.19.22"}, *arguments) as library:
        running = messages.decode(library.hear())
        assert running == messages.Notification(str(library.process.pid), "WORKER_RUNNING", {})
