"""``install_worker``: the order of things, from looking for a worker to publishing a tested one.

What does not belong here: how each step is done (its own module) and how progress is shown.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mafalda.mediasoup.install import cache, pin
from mafalda.mediasoup.install.build import compile_worker, recompile
from mafalda.mediasoup.install.built import Part, description
from mafalda.mediasoup.install.cache import CacheEntry
from mafalda.mediasoup.install.errors import SourceUnavailable
from mafalda.mediasoup.install.libsrtp import add_libsrtp
from mafalda.mediasoup.install.locate import Origin, find_worker
from mafalda.mediasoup.install.overlays import find_flatc, prepare_source
from mafalda.mediasoup.install.progress import Progress, Step, silent
from mafalda.mediasoup.install.proving import prove_both_ways
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


def install_worker(progress: Progress = silent, *, force: bool = False, sanitize: bool = False) -> Installed:
    """Find a worker, or build, test and cache one. Blocking: from a coroutine, call it in a thread.

    Args:
        progress: Called with each step.
        force: Build even if a worker is there. ``MEDIASOUP_WORKER_BIN`` still wins afterwards.
        sanitize: Get a worker with address and undefined-behaviour sanitizers instead. It is in the cache beside the
            other and runs only where ``MEDIASOUP_WORKER_BIN`` names it.

    Raises:
        WorkerInstallError: which of its classes says why.
    """
    started = time.monotonic()
    found = None if force or sanitize else find_worker()
    if found:
        return Installed(found.path, found.origin, pin.WORKER_VERSION, time.monotonic() - started)
    entry = cache.current_entry(extra_options=pin.SANITIZE_OPTIONS if sanitize else ())
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
        libsrtp = _add_libsrtp(worker, entry.root / "source", progress, log)
        prepare_source(worker, flatc)
        clock.lap("prepare")
        build = workspace / "build"
        binary = compile_worker(worker, build, flatc, entry.options, progress, log)
        clock.lap("compile")
        batch, seen = prove_both_ways(worker, binary, lambda: recompile(build, progress, log), progress, log)
        clock.lap("self_test")
        progress(Step("publish", str(entry.binary)))
        info = description(entry, libsrtp=libsrtp, batch=batch, phases_s=clock.phases_s, self_test=seen)
        path = entry.publish(binary, info)
    return Installed(path, "built", pin.WORKER_VERSION, time.monotonic() - started, clock.phases_s, seen)


def _add_libsrtp(worker: Path, folder: Path, progress: Progress, log: TextIO) -> Part:
    try:
        add_libsrtp(worker, folder, progress, log)
    except SourceUnavailable as error:
        progress(Step("source", f"using the distribution's libsrtp: {error.reason}"))
        return Part(as_meant=False, reason=error.reason)
    return Part(as_meant=True)


class _PhaseClock:
    """Seconds between laps, by the name of the phase that ended."""

    def __init__(self) -> None:
        self.phases_s: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.phases_s[name] = round(now - self._last, 3)
        self._last = now
