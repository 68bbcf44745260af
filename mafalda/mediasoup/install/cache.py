"""Where built workers live: one folder per content key, published whole or not at all.

    $XDG_CACHE_HOME/mafalda/mediasoup-worker/        (~/.cache/mafalda/…)
        3.27.1-<key>/mediasoup-worker                the binary
        3.27.1-<key>/mediasoup-worker.sha256         its checksum, checked at each use
        3.27.1-<key>/build.json                      what it was built with
        source/mediasoup-3.27.1.tgz                  the npm package, checked at each use
        source/libsrtp2_….orig.tar.gz, …             libsrtp's source, checked at each use
        logs/3.27.1-<key>.log                        the last build's log
        work-<key>-…/                                a build that is going on (removed at its end)
        3.27.1-<key>.lock                            held while installing

What does not belong here: what fills the cache (``installer``) and who looks elsewhere too (``locate``).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mafalda.mediasoup.install import mends, pin
from mafalda.mediasoup.install.errors import InstallBusy

BINARY_NAME = "mediasoup-worker"
OVERLAY = Path(__file__).parent / "overlay"
"""What stands in for the worker's subprojects: folders that are laid over ``subprojects/``."""
NATIVE = Path(__file__).parent / "native"
"""C++ of our own that is compiled into the worker: laid over its root."""
_POLL_S = 0.2


@cache
def content_key(*extra_options: str) -> str:
    """The key of the binary that this code would build here: 16 hexadecimal digits.

    Args:
        extra_options: Of meson, besides the pinned ones.

    It covers the version, the sources' integrity, the mends, the build options, flatc's version, every overlay
    and native file, the machine, and the distribution whose libraries the binary is linked with.
    """
    digest = hashlib.sha256()
    facts = [
        pin.WORKER_VERSION,
        pin.SOURCE_INTEGRITY,
        *pin.LIBSRTP_SHA256,
        *pin.LIBSRTP_SHA256.values(),
        pin.FLATC_VERSION,
        pin.BUILD_TARGET,
        *pin.MESON_OPTIONS,
        *extra_options,
        *(f"{mend.path}\0{mend.old}\0{mend.new}" for mend in mends.MENDS),
        platform.system(),
        platform.machine(),
        "-".join(platform.libc_ver()),
        _distribution(),
    ]
    for fact in facts:
        digest.update(fact.encode() + b"\0\0")
    for folder in (OVERLAY, NATIVE):
        for file in files_of(folder):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def files_of(folder: Path) -> list[Path]:
    """Our own files below ``OVERLAY`` or ``NATIVE``, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    return f"{release.get('ID', '')}-{release.get('VERSION_ID', '')}"


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where all workers are kept; a relative ``XDG_CACHE_HOME`` is ignored, as its specification says."""
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mafalda" / "mediasoup-worker"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The place of one built worker.

    Attributes:
        root: The cache's folder.
        key: The content key.
        extra_options: Meson's for its build, besides the pinned ones.
    """

    root: Path
    key: str
    extra_options: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Meson's options for its build; of options that contradict each other the last one counts."""
        return (*pin.MESON_OPTIONS, *self.extra_options)

    @property
    def name(self) -> str:
        return f"{pin.WORKER_VERSION}-{self.key}"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def binary(self) -> Path:
        return self.folder / BINARY_NAME

    @property
    def log_path(self) -> Path:
        return self.root / "logs" / f"{self.name}.log"

    def state(self) -> Literal["missing", "sound", "damaged"]:
        """Whether the binary is there and is what its checksum says."""
        try:
            expected = checksum_path(self.binary).read_text(encoding="ascii").split()[0]
            actual = sha256_of(self.binary)
        except FileNotFoundError:
            return "damaged" if self.folder.exists() else "missing"
        except (OSError, IndexError, ValueError):
            return "damaged"
        return "sound" if actual == expected and os.access(self.binary, os.X_OK) else "damaged"

    def publish(self, binary: Path, info: str) -> Path:
        """Put ``binary`` and its description in place, all at once and on the disk. Call it under ``locked``.

        Args:
            binary: The freshly built and tested worker.
            info: What goes into ``build.json``.

        Returns:
            The binary's place in the cache.
        """
        staged = Path(tempfile.mkdtemp(prefix=f"work-{self.key}-", dir=self.root))
        try:
            target = staged / BINARY_NAME
            shutil.copyfile(binary, target)
            target.chmod(0o755)
            checksum_path(target).write_text(f"{sha256_of(target)}  {BINARY_NAME}\n", encoding="ascii")
            (staged / "build.json").write_text(info, encoding="utf-8")
            staged.chmod(0o755)
            for path in (*staged.iterdir(), staged):
                _fsync(path)
            if self.folder.exists():
                self.folder.rename(staged / "replaced")
            staged.rename(self.folder)
            _fsync(self.root)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        shutil.rmtree(self.folder / "replaced", ignore_errors=True)
        return self.binary

    @contextlib.contextmanager
    def locked(self, *, timeout_s: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold this entry's lock; the kernel releases it if the process dies.

        Args:
            timeout_s: How long to wait for another process.
            on_wait: Called once if there is something to wait for.

        Raises:
            InstallBusy: another process held it all the time.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        started, waiting = time.monotonic(), False
        with (self.root / f"{self.name}.lock").open("a+") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting:
                        waiting = True
                        on_wait()
                    if time.monotonic() - started > timeout_s:
                        raise InstallBusy(
                            "another process is installing the worker", lock=lock.name, waited_s=timeout_s
                        ) from None
                time.sleep(_POLL_S)  # flock has no time limit of its own
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the cache's disk, removed at the end, with what a killed build left. Under ``locked``."""
        for stale in self.root.glob(f"work-{self.key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"work-{self.key}-", dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def current_entry(environ: Mapping[str, str] = os.environ, *, extra_options: tuple[str, ...] = ()) -> CacheEntry:
    """The entry of the worker that this code would build here."""
    return CacheEntry(cache_root(environ), content_key(*extra_options), extra_options)


def checksum_path(binary: Path) -> Path:
    """The checksum file beside a binary, in sha256sum's format."""
    return binary.with_name(binary.name + ".sha256")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
