"""``install_worker``: the order of things, from looking for a worker to publishing a tested one.

What does not belong here: how each step is done (its own module) and how progress is shown.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mafalda.mediasoup.install import cache, pin
from mafalda.mediasoup.install.build import compile_worker
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.mediasoup.install.errors import BuildFailed, SelfTestFailed
from mafalda.mediasoup.install.locate import Origin, find_worker, starts
from mafalda.mediasoup.install.overlays import find_flatc, prepare_source
from mafalda.mediasoup.install.progress import Progress, Step, silent
from mafalda.mediasoup.install.source import obtain_tarball, unpack_worker
from mafalda.mediasoup.install.system import ensure_system_packages

_LOCK_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Installed:
    """The worker to use.

    Attributes:
        path: The binary.
        origin: Where it came from; ``built`` means by this call.
        version: mediasoup's version.
        took_s: Seconds of the whole call.
        phases_s: Seconds of each phase of a build; empty if nothing was built.
        self_test: What the self-test saw; ``None`` if nothing was built.
    """

    path: Path
    origin: Origin
    version: str
    took_s: float
    phases_s: dict[str, float] = field(default_factory=dict)
    self_test: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all this."""
        return {**asdict(self), "path": str(self.path)}


def install_worker(progress: Progress = silent, *, force: bool = False) -> Installed:
    """Find a worker, or build, test and cache one. Blocking: from a coroutine, call it in a thread.

    Args:
        progress: Called with each step.
        force: Build even if a worker is there. ``MEDIASOUP_WORKER_BIN`` still wins afterwards.

    Raises:
        WorkerInstallError: which of its classes says why.
    """
    started = time.monotonic()
    found = None if force else find_worker()
    if found:
        return Installed(found.path, found.origin, pin.WORKER_VERSION, time.monotonic() - started)
    entry = cache.current_entry()
    progress(Step("find", f"no mediasoup-worker {pin.WORKER_VERSION} to use yet" if not force else "building anyway"))
    if entry.state() == "damaged":
        progress(Step("find", f"{entry.binary} is not what its checksum says: building it again"))

    def report_waiting() -> None:
        progress(Step("wait", "another process is installing it"))

    with entry.locked(timeout_s=_LOCK_TIMEOUT_S, on_wait=report_waiting):
        # Whoever held the lock may have built it meanwhile.
        if not force and entry.state() == "sound":
            return Installed(entry.binary, "cache", pin.WORKER_VERSION, time.monotonic() - started)
        return _build(entry, progress, started)


def _build(entry: CacheEntry, progress: Progress, started: float) -> Installed:
    clock = _PhaseClock()
    entry.log_path.parent.mkdir(parents=True, exist_ok=True)
    with entry.log_path.open("w", encoding="utf-8", errors="replace") as log, entry.workspace() as workspace:
        progress(Step("packages", "checking tools and libraries"))
        flatc = find_flatc()
        ensure_system_packages(progress, log)
        clock.lap("packages")
        tarball = obtain_tarball(entry.root / "source", progress)
        clock.lap("source")
        progress(Step("prepare", "unpacking, laying overlays, mending"))
        worker = unpack_worker(tarball, workspace / "worker")
        prepare_source(worker, flatc)
        clock.lap("prepare")
        binary = compile_worker(worker, workspace / "build", flatc, progress, log)
        clock.lap("compile")
        seen = _self_test(binary, progress, log)
        clock.lap("self_test")
        progress(Step("publish", str(entry.binary)))
        path = entry.publish(binary, _build_info(entry, clock, seen))
    return Installed(path, "built", pin.WORKER_VERSION, time.monotonic() - started, clock.phases_s, seen)


def _self_test(binary: Path, progress: Progress, log: TextIO) -> dict[str, Any]:
    progress(Step("self-test", "DTLS handshakes in both roles, and media through the new worker"))
    if not starts(binary):
        raise BuildFailed("the new worker does not start", log_path=Path(log.name), tail=f"see: ldd {binary.name}")
    # Imported late: the WebRTC endpoint takes a second to import and only a build needs it.
    from mafalda.mediasoup.install.selftest import run_self_test

    try:
        seen = run_self_test(binary).to_json()
    except SelfTestFailed as error:
        log.write(f"self-test: {error}\n")
        raise
    log.write(f"self-test: {json.dumps(seen)}\n")
    return seen


def _build_info(entry: CacheEntry, clock: _PhaseClock, seen: dict[str, Any]) -> str:
    info = {
        "version": pin.WORKER_VERSION,
        "key": entry.key,
        "source_integrity": pin.SOURCE_INTEGRITY,
        "options": list(pin.MESON_OPTIONS),
        "mends": [{"path": mend.path, "why": mend.why} for mend in pin.MENDS],
        "machine": platform.machine(),
        "compiler": _first_line(["c++", "--version"]),
        "libraries": {
            module: _first_line(["pkg-config", "--modversion", module])
            for module in ("libuv", "openssl", "libsrtp2", "absl_strings")
        },
        "phases_s": clock.phases_s,
        "self_test": seen,
    }
    return json.dumps(info, indent=2) + "\n"


def _first_line(command: list[str]) -> str | None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.partition("\n")[0] or None


class _PhaseClock:
    """Seconds between laps, by the name of the phase that ended."""

    def __init__(self) -> None:
        self.phases_s: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.phases_s[name] = round(now - self._last, 3)
        self._last = now
